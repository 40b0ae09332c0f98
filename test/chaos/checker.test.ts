import { describe, expect, test } from 'vitest';
import { check } from './checker.ts';
import {
  type FinalState,
  type Item,
  newHistory,
  type Operation,
  type Outcome,
  type Received,
} from './history.ts';
import { SETTLE_MS } from './knowledge.ts';
import type { Rule } from './rules.ts';

const AUTHOR = 1;
const READER = 2;
const STRANGER = 3;

/** A history of an author, a follower and a stranger, built one line after the other. */
class Story {
  readonly history = newHistory([AUTHOR, READER, STRANGER], [[READER, AUTHOR]]);
  follows = new Set([`${READER}:${AUTHOR}`]);
  limit = 1_000;
  /** Time of a frame between a gateway and its client. */
  flightMs = Number.POSITIVE_INFINITY;
  session = 1;
  #opened = 0;
  #at = 0;
  #ids = 0;

  #add(one: object, outcome: Outcome, retried = false): Operation {
    this.#at += 10;
    const start = this.#at;
    const operation = { start, end: start + 5, outcome, retried, ...one } as Operation;
    this.history.operations.push(operation);
    return operation;
  }

  create(key: string, outcome: Outcome = 'ok', user = AUTHOR): Item {
    this.#ids += 1;
    const text = `${key} first`;
    this.#add({ do: 'create', user, key, text, ...(outcome === 'ok' && { postId: this.#ids }) }, outcome);
    return { id: this.#ids, author: user, text };
  }

  edit(item: Item, n: number, outcome: Outcome = 'ok', { why = '', retried = false } = {}): Item {
    const key = item.text.split(' ')[0]!;
    const text = `${key} edit ${n}`;
    this.#add({ do: 'edit', user: item.author, key, text, ...(why && { why }) }, outcome, retried);
    return { ...item, text };
  }

  remove(item: Item, outcome: Outcome = 'ok'): void {
    this.#add({ do: 'delete', user: item.author, key: item.text.split(' ')[0] }, outcome);
  }

  unfollow(outcome: Outcome = 'ok', retried = false): void {
    this.#add({ do: 'unfollow', user: READER, followee: AUTHOR }, outcome, retried);
  }

  follow(outcome: Outcome = 'ok'): void {
    this.#add({ do: 'follow', user: READER, followee: AUTHOR }, outcome);
  }

  read(items: Item[], { user = READER, limit = 20, degraded = false } = {}): void {
    this.#add({ do: 'read', user, gateway: 'g', limit, items, degraded }, 'ok');
  }

  #receive(one: Partial<Received>): void {
    this.#at += 10;
    const at = this.#at;
    this.history.received.push({
      user: READER,
      session: this.session,
      gateway: 'g',
      opened: this.#opened,
      kind: 'post',
      at,
      sent: at - this.flightMs,
      ...one,
    });
  }

  wait(ms: number): void {
    this.#at += ms;
  }

  /** All is quiet: the reader and the author have these feeds. */
  checkpoint(feed: Item[], own: Item[] = feed): void {
    this.#at += 10;
    this.history.checkpoints.push({ at: this.#at, state: this.#state(feed, own) });
  }

  hello(recovered = true): void {
    this.#receive({ kind: 'hello', recovered });
  }

  /** Opens another session, with the cursor of the last one. */
  returns(recovered = true): void {
    this.session += 1;
    this.#at += 10;
    this.#opened = this.#at;
    this.hello(recovered);
  }

  deleted({ id: postId }: Item): void {
    this.#receive({ kind: 'deleted', postId });
  }

  frame(item: Item, kind: 'post' | 'edited' = 'post', user = READER): void {
    this.#receive({ kind, item, user });
  }

  /** Rules that the final feed of the reader, and the others' empty ones, break. */
  broken(feed: Item[], own: Item[] = []): Rule[] {
    return check(this.history, this.#state(feed, own)).map(({ rule }) => rule);
  }

  #state(feed: Item[], own: Item[]): FinalState {
    const of = (user: number, items: Item[]) => ({ user, gateway: 'g', limit: this.limit, items });
    return {
      follows: new Set(this.follows),
      feeds: [of(AUTHOR, own), of(READER, feed), of(STRANGER, [])],
    };
  }
}

const story = (tell: (story: Story) => Item[] | [Item[], Item[]]): Rule[] => {
  const one = new Story();
  const feeds = tell(one);
  const isPair = feeds.length === 2 && feeds.every(Array.isArray);
  const [feed, own] = isPair ? (feeds as [Item[], Item[]]) : [feeds as Item[], feeds as Item[]];
  return one.broken(feed, own);
};

describe('a final feed', () => {
  test('with all posts, newest first, is right', () => {
    expect(
      story((s) => {
        const [a, b] = [s.create('a'), s.create('b')];
        return [b, a];
      }),
    ).toEqual([]);
  });

  test('without an acknowledged post has lost it', () => {
    expect(story((s) => [[], [s.create('a')]])).toEqual(['lost']);
  });

  test('may have a post of unknown fate, if all who follow its author have it', () => {
    expect(story((s) => [s.create('a', 'unknown')])).toEqual([]);
    expect(
      story((s) => {
        s.create('a', 'unknown');
        return [];
      }),
    ).toEqual([]);
    expect(story((s) => [[], [s.create('a', 'unknown')]])).toEqual(['lost']);
  });

  test('shows no deleted post, no refused one and none of a stranger', () => {
    expect(
      story((s) => {
        const a = s.create('a');
        s.remove(a);
        return [[a], []];
      }),
    ).toEqual(['stranger', 'lost']);
    expect(story((s) => [[s.create('a', 'refused')], []])).toEqual(['refused', 'stranger', 'lost']);
    expect(story((s) => [[s.create('a', 'ok', STRANGER)], []])).toContain('stranger');
  });

  test('shows a post once, in order, and no more than was asked for', () => {
    expect(
      story((s) => {
        const a = s.create('a');
        return [[a, a], [a]];
      }),
    ).toEqual(['duplicate', 'order']);
    expect(
      story((s) => {
        const [a, b] = [s.create('a'), s.create('b')];
        s.read([b, a], { limit: 1 });
        return [b, a];
      }),
    ).toEqual(['bound']);
  });

  test('that is full need not have older posts', () => {
    const one = new Story();
    const [a, b] = [one.create('a'), one.create('b')];
    one.limit = 1;
    expect(one.broken([b], [b])).toEqual([]);
    expect(one.broken([a], [a])).toEqual(['lost', 'lost']);
  });

  test('has the last acknowledged text, or one whose edit has no answer', () => {
    const texts = (outcome: Outcome, shown: 'old' | 'new') =>
      story((s) => {
        const first = s.create('a');
        const edited = s.edit(first, 1, outcome);
        return [shown === 'old' ? first : edited];
      });
    expect(texts('ok', 'new')).toEqual([]);
    expect(texts('ok', 'old')).toEqual(['text', 'text']);
    expect(texts('unknown', 'old')).toEqual([]);
    expect(texts('unknown', 'new')).toEqual([]);
  });

  test('may lack what a failover lost, and nothing else', () => {
    const lost = (from: number, to: number) =>
      story((s) => {
        s.create('a');
        s.history.mayLose.push({ from, to });
        return [];
      });
    expect(lost(10, 20)).toEqual([]);
    const changed = (from: number, to: number) =>
      story((s) => {
        s.edit(s.create('a'), 1, 'refused', { why: '404 no such post' });
        s.history.mayLose.push({ from, to });
        return [];
      });
    expect(changed(10, 20)).toEqual([]);
    expect(changed(100, 200)).toContain('refused');
    expect(lost(100, 200)).toEqual(['lost', 'lost']);
  });
});

describe('a follow', () => {
  test('that was acknowledged stands, and so does an unfollow', () => {
    expect(
      story((s) => {
        s.unfollow();
        return [];
      }),
    ).toEqual(['undone']);
    expect(
      story((s) => {
        s.follows.clear();
        s.unfollow();
        s.follow();
        return [];
      }),
    ).toEqual(['undone']);
  });

  describe.each([
    ['unknown', false],
    ['ok', true],
  ] as const)('after an unfollow that is %s (repeated: %s)', (outcome, retried) => {
    const undone = (then: (s: Story) => void) =>
      story((s) => {
        s.unfollow(outcome, retried);
        then(s);
        s.follow();
        s.follows.clear();
        return [];
      });

    test('either is right, until its attempts have ended', () => {
      expect(undone(() => {})).toEqual([]);
      expect(undone((s) => s.wait(SETTLE_MS))).toEqual(['undone']);
    });

    test('either is right as long as links hold requests up', () => {
      const held = (s: Story) => {
        s.history.held.push({ from: 0, to: SETTLE_MS });
        s.wait(SETTLE_MS);
      };
      expect(undone(held)).toEqual([]);
    });
  });

  test('without an answer is known when it was read', () => {
    const shown = (isFollowed: boolean) =>
      story((s) => {
        const a = s.create('a');
        s.unfollow('unknown');
        if (!isFollowed) s.follows.clear();
        s.wait(SETTLE_MS);
        s.checkpoint(isFollowed ? [a] : [], [a]);
        s.read([a]);
        return [isFollowed ? [a] : [], [a]];
      });
    expect(shown(true)).toEqual([]);
    expect(shown(false)).toEqual(['stranger']);
  });

  test('that was acknowledged is not made unknown by what was read', () => {
    expect(
      story((s) => {
        s.unfollow();
        s.checkpoint([]);
        return [];
      }),
    ).toEqual(['undone']);
  });
});

describe('a page', () => {
  test('after an unfollow shows none of that author; one that was under way may', () => {
    expect(
      story((s) => {
        const a = s.create('a');
        s.unfollow();
        s.read([a]);
        s.follows.clear();
        return [[], [a]];
      }),
    ).toEqual(['stranger']);
    expect(
      story((s) => {
        const a = s.create('a');
        s.unfollow('unknown');
        s.read([a]);
        return [a];
      }),
    ).toEqual([]);
  });

  test('has the own posts that its range covers, unless the database was unavailable', () => {
    const own = (limit: number, shown: 'none' | 'newer', degraded = false) =>
      story((s) => {
        const [a, b] = [s.create('a'), s.create('b')];
        s.read(shown === 'none' ? [] : [b], { user: AUTHOR, limit, degraded });
        return [b, a];
      });
    expect(own(20, 'none')).toEqual(['own post', 'own post']);
    expect(own(1, 'newer')).toEqual([]);
    expect(own(20, 'none', true)).toEqual([]);
  });

  test('keeps what an earlier page had, unless a failover may have lost the row', () => {
    const later = (shown: boolean, lost: [number, number] = [1_000, 1_000]) =>
      story((s) => {
        const a = s.create('a');
        s.read([a]);
        s.history.mayLose.push({ from: lost[0], to: lost[1] });
        s.read(shown ? [a] : []);
        return [a];
      });
    expect(later(true)).toEqual([]);
    expect(later(false)).toEqual(['monotonic']);
    expect(later(false, [18, 26])).toEqual([]);
    expect(later(false, [26, 28])).toEqual(['monotonic']);
  });
});

describe('a socket', () => {
  test('gets each post of the followed since its first session, once', () => {
    const frames = (count: number, gap = false) =>
      story((s) => {
        s.history.clocksWrong = gap;
        s.hello();
        const a = s.create('a');
        if (gap) s.returns(false);
        for (let i = 0; i < count; i += 1) s.frame(a);
        return [a];
      });
    expect(frames(1)).toEqual([]);
    expect(frames(0)).toEqual(['lost']);
    expect(frames(2)).toEqual(['duplicate']);
    expect(frames(0, true)).toEqual([]);
  });

  test('gets nothing of an author whose posts began after the unfollow, and nothing of its own user', () => {
    expect(
      story((s) => {
        s.hello();
        s.unfollow();
        s.follows.clear();
        const a = s.create('a');
        s.frame(a);
        return [[], [a]];
      }),
    ).toEqual(['stranger']);
    expect(
      story((s) => {
        const a = s.create('a');
        s.frame(a, 'post', AUTHOR);
        return [a];
      }),
    ).toEqual(['stranger']);
  });

  test('may get a post that was under way when the unfollow was answered, and not later', () => {
    const frameAfter = (flightMs: number) =>
      story((s) => {
        s.flightMs = flightMs;
        s.hello();
        const a = s.create('a');
        s.unfollow();
        s.follows.clear();
        s.frame(a);
        return [[], [a]];
      });
    expect(frameAfter(20)).toEqual([]);
    expect(frameAfter(2)).toEqual(['stranger']);
  });

  test('gets no frame of a post long after its deletion, and no text replaced by then', () => {
    const late = (ms: number, change: 'delete' | 'edit') =>
      story((s) => {
        s.flightMs = 0;
        s.hello();
        const a = s.create('a');
        const edited = change === 'edit' ? s.edit(a, 1) : a;
        if (change === 'delete') s.remove(a);
        s.wait(ms);
        s.frame(a);
        return change === 'edit' ? [edited] : [];
      });
    expect(late(480, 'delete')).toEqual([]);
    expect(late(520, 'delete')).toEqual(['stranger']);
    expect(late(480, 'edit')).toEqual([]);
    expect(late(520, 'edit')).toEqual(['text']);
  });

  test('gets no older text after a later one, unless the older edit has no answer', () => {
    const back = (outcome: Outcome, retried = false) =>
      story((s) => {
        s.hello();
        const a = s.create('a');
        const one = s.edit(a, 1, outcome, { retried });
        const two = s.edit(a, 2);
        s.frame(two);
        s.frame(one, 'edited');
        return [two];
      });
    expect(back('ok')).toEqual(['text']);
    expect(back('ok', true)).toEqual([]);
    expect(back('unknown')).toEqual([]);
  });

  test('that stays open gets each edit and each deletion after the checkpoint, or a later one', () => {
    const told = (tell: (s: Story, a: Item) => Item[], open: 'before' | 'meanwhile' = 'before') =>
      story((s) => {
        s.hello();
        const a = s.create('a');
        s.frame(a);
        s.checkpoint([a]);
        const rest = tell(s, a);
        if (open === 'meanwhile') s.returns();
        return rest;
      });
    const untold = (s: Story, a: Item) => [s.edit(a, 1)];
    expect(told(untold)).toEqual(['untold']);
    expect(told(untold, 'meanwhile')).toEqual([]);
    const later = (s: Story, a: Item) => {
      s.edit(a, 1);
      const two = s.edit(a, 2);
      s.frame(two, 'edited');
      return [two];
    };
    expect(told(later)).toEqual([]);
    const removed = (isTold: boolean) => (s: Story, a: Item) => {
      s.remove(a);
      if (isTold) s.deleted(a);
      return [];
    };
    expect(told(removed(true))).toEqual([]);
    expect(told(removed(false))).toEqual(['untold']);
  });

  test('gets no deletion of a post that exists', () => {
    expect(
      story((s) => {
        s.hello();
        const a = s.create('a');
        s.frame(a);
        s.deleted(a);
        return [a];
      }),
    ).toEqual(['false deletion']);
  });

  test('resumes after few missed posts, whatever happened, unless a clock was wrong', () => {
    const gap = (clocksWrong: boolean) =>
      story((s) => {
        s.history.clocksWrong = clocksWrong;
        s.hello();
        s.returns(false);
        return [];
      });
    expect(gap(false)).toEqual(['gap']);
    expect(gap(true)).toEqual([]);
  });

  test('has a gap only of posts that were not due before: a resumed session got its whole feed', () => {
    const lost = (isResumed: boolean) =>
      story((s) => {
        s.history.clocksWrong = true;
        s.hello();
        const a = s.create('a');
        s.read([a]);
        if (isResumed) s.returns();
        const b = s.create('b');
        s.frame(b);
        s.returns(false);
        return [b, a];
      });
    expect(lost(true)).toEqual(['lost']);
    expect(lost(false)).toEqual([]);
  });
});
