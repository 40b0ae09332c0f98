/** What the benchmark asks of its own processes, and what they answer. Times are milliseconds of the machine's monotonic clock. */

/** Of this machine, the same in every process: tells how long something took that ends in another process. */
export const machineNow = (): number => Number(process.hrtime.bigint()) / 1e6;

/** The time at which a post was asked for travels in its text. */
export const stampedText = (): string => `a post of the benchmark at=${machineNow().toFixed(3)}`;
const STAMP = /at=(\d+\.\d+)/;
export const stampOf = (frame: string): number => Number(STAMP.exec(frame)?.[1]);

export interface Usage {
  readonly rssBytes: number;
  readonly cpuSeconds: number;
}

/** Asked of the bare server. */
export interface BareServerCalls {
  listen(args: { hello: string }): { url: string };
  usage(args: object): Usage;
  /** Sends this text to every socket. */
  broadcast(args: { text: string }): { startedAt: number };
}

export interface Posted {
  readonly posts: number;
  /** Anything but 201. */
  readonly errors: number;
  /** What the first of them was. */
  readonly firstError: string | null;
  /** Of each request that was answered by 201. */
  readonly requestMs: readonly number[];
}

export interface Frames {
  readonly frames: number;
  readonly firstAt: number;
  readonly lastAt: number;
  /** From the stamp in each frame to its arrival. */
  readonly latencyMs: readonly number[];
  /** A frame as it came. */
  readonly sample: string | null;
}

/** Asked of a process with clients. A set is the sockets of one server. */
export interface ClientCalls {
  /** Resolves when every one of them has been said hello. */
  open(args: { set: string; url: string; tokens: readonly string[] }): { opened: number };
  /** Answers how many the server had closed before. */
  close(args: { set: string }): { closed: number };
  /** Frames since the last call, once there are so many or the time is over. */
  frames(args: { set: string; count: number; timeoutMs: number }): Frames;
  /** Posts at an even rate, each by the next of the authors; slow answers do not slow it down. */
  postAtRate(args: { url: string; tokens: readonly string[]; perSecond: number; seconds: number }): Posted;
  /** Every author posts, and thinks between one post and the next for `thinkMs` on average. */
  postAsPeople(args: { url: string; tokens: readonly string[]; thinkMs: number; seconds: number }): Posted;
}
