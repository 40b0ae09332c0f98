/** Calls to the process of the bare route. */
export interface BareHttpCalls {
  /** Serves this body as JSON at `/post/feed`. */
  listen(args: { body: string }): { url: string };
}

export interface Load {
  readonly requests: number;
  /** Answers other than 200. */
  readonly errors: number;
  /** Bytes of all bodies. */
  readonly bytes: number;
  readonly seconds: number;
  readonly latencyMs: readonly number[];
}

export interface LoadCalls {
  /** Each connection requests a feed with the next token as soon as it has an answer. */
  run(args: { url: string; tokens: readonly string[]; connections: number; seconds: number }): Load;
}
