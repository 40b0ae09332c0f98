/** What `bench http` asks of its own processes. */
export interface BareHttpCalls {
  /** Serves these bytes as JSON at any time, at `/post/feed`. */
  listen(args: { body: string }): { url: string };
}

export interface Load {
  readonly requests: number;
  /** Anything but 200. */
  readonly errors: number;
  /** Of all bodies. */
  readonly bytes: number;
  readonly seconds: number;
  readonly latencyMs: readonly number[];
}

export interface LoadCalls {
  /** Each connection asks for a feed, by the next of the tokens, as soon as it has been answered. */
  run(args: { url: string; tokens: readonly string[]; connections: number; seconds: number }): Load;
}
