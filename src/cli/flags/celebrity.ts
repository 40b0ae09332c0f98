import { Flags } from '@oclif/core';
import { type CelebrityRule, celebrityRule } from '../../engine/model/celebrity.ts';
import { FeedctlError } from '../../engine/model/errors.ts';

/** Flags of the rule for celebrities. */
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

/** Returns the rule of the flags, with the rule of the cluster as default. Throws USAGE. */
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
