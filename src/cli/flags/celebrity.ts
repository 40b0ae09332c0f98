import { Flags } from '@oclif/core';
import { type CelebrityRule, celebrityRule } from '../../engine/model/celebrity.ts';
import { FeedctlError } from '../../engine/model/errors.ts';

/** Who is taken for a celebrity, for the commands that ask. */
export const celebrityRuleFlags = {
  threshold: Flags.integer({
    description: 'number of followers above which an author is a celebrity',
    min: 0,
  }),
  'release-at': Flags.integer({
    description:
      'number of followers at which a celebrity stops being one; default: four fifths of the threshold',
    min: 0,
  }),
};

/** What the flags say, and where they say nothing the rule of the cluster. Throws USAGE. */
export function chosenCelebrityRule(
  {
    threshold,
    'release-at': releaseAt,
  }: { threshold?: number | undefined; 'release-at'?: number | undefined },
  cluster: CelebrityRule,
): CelebrityRule {
  const rule =
    threshold === undefined
      ? { threshold: cluster.threshold, releaseAt: releaseAt ?? cluster.releaseAt }
      : celebrityRule(threshold, releaseAt);
  if (rule.releaseAt > rule.threshold)
    throw new FeedctlError(
      'USAGE',
      `--release-at ${rule.releaseAt} is above the threshold of ${rule.threshold}`,
    );
  return rule;
}
