/** The rules of a feed, and the guarantees of one session. */
export const RULES = {
  lost: 'a post that was acknowledged is missing',
  stranger: 'a post of an author who is not followed, or a deleted one, is shown',
  duplicate: 'a post is shown twice',
  order: 'a feed is not ordered from new to old',
  bound: 'more was sent than was asked for',
  text: 'a post has a text that was replaced before',
  'own post': 'an author does not see a post that was acknowledged to them',
  monotonic: 'a later page lacks a post that an earlier page had',
  undone: 'an acknowledged follow or unfollow is undone',
  refused: 'a valid request was refused',
  untold: 'a socket that stayed open did not get the frame of an edit or a deletion',
  'false deletion': 'a socket got the deletion of a post that exists',
  gap: 'a client that returned with its cursor was refused the few posts that it had missed',
  verify: '`feed verify` finds a difference between the rows of feeds and the truth',
  letter: 'the dead letters are not the malformed messages',
} as const;
export type Rule = keyof typeof RULES;

export interface Finding {
  readonly rule: Rule;
  readonly user: number;
  readonly detail: string;
  /** Key of the post that the finding is about. */
  readonly key?: string;
  /** The author, or the other user of the pair. */
  readonly other?: number;
}

/** Adds a finding. */
export type Report = (
  rule: Rule,
  user: number,
  detail: string,
  about?: { key?: string; other?: number },
) => void;
