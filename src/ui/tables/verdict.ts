import { styleText } from 'node:util';

export type Verdict = 'good' | 'doubtful' | 'bad';

const COLOURS = { good: 'green', doubtful: 'yellow', bad: 'red' } as const;

/** Returns the sentence that an answer begins with, in colour on a terminal. */
export const verdictLine = (verdict: Verdict, sentence: string): string =>
  styleText(COLOURS[verdict], sentence, { stream: process.stdout });
