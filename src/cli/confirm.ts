import { createInterface } from 'node:readline/promises';
import { FeedctlError } from '../engine/model/errors.ts';

/** Why a command cannot ask, such as `stdin is not a terminal`; undefined if it can. */
type Obstacle = string | undefined;

export const isYes = (answer: string): boolean => /^y(es)?$/i.test(answer);

/** Asks for a yes. Throws CONFIRMATION_REQUIRED for any other answer, and if the command cannot ask. */
export async function askYes(question: string, obstacle: Obstacle): Promise<void> {
  const answer = await ask(`${question} [y/N] `, question, obstacle);
  if (!isYes(answer)) throw new FeedctlError('CONFIRMATION_REQUIRED', 'not confirmed: nothing was changed');
}

/**
 * For severe changes: asks for the name of what is changed, unless `given`, the value of `flag`, has it.
 * Throws CONFIRMATION_REQUIRED for another name, and if the command cannot ask.
 */
export async function askName(
  question: string,
  name: string,
  { given, flag, obstacle }: { given: string | undefined; flag: string; obstacle: Obstacle },
): Promise<void> {
  const options = { suggestions: [`Pass ${flag} ${name} to confirm without being asked.`] };
  const prompt = `${question} Type ${name} to confirm: `;
  const typed = given ?? (await ask(prompt, question, obstacle, options));
  if (typed === name) return;
  const message = `${JSON.stringify(typed)} is not ${name}: nothing was changed`;
  throw new FeedctlError('CONFIRMATION_REQUIRED', message, options);
}

async function ask(
  prompt: string,
  question: string,
  obstacle: Obstacle,
  options?: { suggestions: string[] },
): Promise<string> {
  if (obstacle !== undefined)
    throw new FeedctlError('CONFIRMATION_REQUIRED', `${question} Cannot ask: ${obstacle}`, options);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const closed = new Promise<never>((_, reject) => {
      terminal.once('close', () =>
        reject(new FeedctlError('CONFIRMATION_REQUIRED', 'not confirmed: nothing was changed')),
      );
    });
    return (await Promise.race([terminal.question(prompt), closed])).trim();
  } catch (error) {
    // The error begins on a new line, not behind the question.
    process.stderr.write('\n');
    throw error;
  } finally {
    terminal.close();
  }
}
