/** The child's side of the calls: runs one method a call, and exits when the parent does. */

type Calls = Record<string, (args: never) => unknown>;
export type Answering<C> = {
  [Name in keyof C]: C[Name] extends (args: infer Args) => infer Answer
    ? (args: Args) => Answer | Promise<Answer>
    : never;
};

export function answerParent<C>(calls: Answering<C>): void {
  process.on('disconnect', () => process.exit(0));
  // Ctrl-C reaches the whole process group, but the parent ends this process.
  process.on('SIGINT', () => {});
  process.on('message', async ({ id, call, args }: { id: number; call: string; args: never }) => {
    try {
      process.send?.({ id, answer: await (calls as Calls)[call]!(args) });
    } catch (error) {
      process.send?.({ id, error: String(error) });
    }
  });
}
