/** Calls to the processes of `bench push`. Times are milliseconds of the machine's monotonic clock. */

/** Milliseconds of the monotonic clock, which all processes of the machine share. */
export const machineNow = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Text of a post that contains the time of its request. */
export const stampedText = (): string => `a post of the benchmark at=${machineNow().toFixed(3)}`;
const STAMP = /at=(\d+\.\d+)/;
export const stampOf = (frame: string): number => Number(STAMP.exec(frame)?.[1]);

export interface Usage {
  readonly rssBytes: number;
  readonly cpuSeconds: number;
}

/** Calls to the bare server. */
export interface BareServerCalls {
  listen(args: { hello: string }): { url: string };
  usage(args: object): Usage;
  /** Sends this text to every socket. */
  broadcast(args: { text: string }): { startedAt: number };
}

export interface Posted {
  readonly posts: number;
  /** Answers other than 201. */
  readonly errors: number;
  /** The first error. */
  readonly firstError: string | null;
  /** Latency of each request with the answer 201. */
  readonly requestMs: readonly number[];
}

export interface Frames {
  readonly frames: number;
  readonly firstAt: number;
  readonly lastAt: number;
  /** From the stamp in each frame to its arrival. */
  readonly latencyMs: readonly number[];
  /** One of the frames. */
  readonly sample: string | null;
}

/** Calls to a process with clients. A set is the sockets of one server. */
export interface ClientCalls {
  /** Resolves when every socket has received the hello. */
  open(args: { set: string; url: string; tokens: readonly string[] }): { opened: number };
  /** Returns the number of sockets that the server had closed before. */
  close(args: { set: string }): { closed: number };
  /** Returns the frames since the last call, once there are `count` or the time is up. */
  frames(args: { set: string; count: number; timeoutMs: number }): Frames;
  /** Posts at a constant rate, each as the next author, without waiting for answers. */
  postAtRate(args: { url: string; tokens: readonly string[]; perSecond: number; seconds: number }): Posted;
  /** Every author posts with pauses of `thinkMs` on average. */
  postAsPeople(args: { url: string; tokens: readonly string[]; thinkMs: number; seconds: number }): Posted;
}
