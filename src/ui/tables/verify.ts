import type { VerifyResult } from '../../engine/feed/verify/verify.ts';
import { counted } from '../../engine/model/counted.ts';
import { type Verdict, verdictLine } from './verdict.ts';

/** The differences that were found, one text a kind. */
function differences(result: VerifyResult): string[] {
  const { missing, strangers, orphans, duplicates, stale, asymmetric } = result;
  const kinds: [count: number, text: string][] = [
    [missing, `${counted(missing, 'row')} missing`],
    [strangers, `${counted(strangers, 'row')} of authors who are not followed`],
    [orphans, `${counted(orphans, 'row')} without a post`],
    [duplicates, `${counted(duplicates, 'post')} twice in a cached feed`],
    [stale, `${counted(stale, 'cached text')} out of date`],
    [asymmetric, `${counted(asymmetric, 'follow')} known to one side only`],
  ];
  return kinds.flatMap(([count, text]) => (count > 0 ? [text] : []));
}

/** Says that nothing differs. */
function fineText(checked: number, user: number | undefined): string {
  if (user !== undefined) return `The feed of user ${user} is as it should be.`;
  return checked === 1
    ? 'The feed is as it should be.'
    : `All ${counted(checked, 'feed')} are as they should be.`;
}

function verdict(
  result: VerifyResult,
  { user, repair }: { user: number | undefined; repair: boolean },
): [Verdict, string] {
  const { checked, mismatched } = result;
  const found = differences(result);
  if (checked === 0) return ['good', 'There is no feed to compare.'];
  if (found.length === 0 && mismatched === 0) return ['good', fineText(checked, user)];
  const said = `${differText({ checked, mismatched }, { user, repair })}: ${found.join(', ')}.`;
  return repair ? ['doubtful', `${said} All of it is repaired.`] : ['bad', said];
}

function differText(
  { checked, mismatched }: Pick<VerifyResult, 'checked' | 'mismatched'>,
  { user, repair }: { user: number | undefined; repair: boolean },
): string {
  if (mismatched === 0) return `No feed ${repair ? 'differed' : 'differs'}, but there is more`;
  const [one, many] = repair ? ['differed', 'differed'] : ['differs', 'differ'];
  if (user !== undefined) return `The feed of user ${user} ${one}`;
  const feeds = `${mismatched.toLocaleString('en-US')} of ${counted(checked, 'feed')}`;
  return `${feeds} ${mismatched === 1 ? one : many}`;
}

/** The result of `feed verify` in words: a sentence, the users whose feeds differ, and the fix. */
export function verifyLines(
  result: VerifyResult,
  scope: { user: number | undefined; repair: boolean },
): string[] {
  const lines = [verdictLine(...verdict(result, scope))];
  const { mismatched, users } = result;
  if (mismatched > 0 && scope.user === undefined) {
    const more = mismatched > users.length ? ', …' : '';
    lines.push(`${mismatched === 1 ? 'User' : 'Users'}: ${users.join(', ')}${more}`);
  }
  if (!scope.repair && (mismatched > 0 || differences(result).length > 0)) {
    const command = `feedctl feed verify ${scope.user ?? '--all'} --repair`;
    lines.push(`If no post is in flight, repair it: \`${command}\`.`);
  }
  return lines;
}
