import { describe, expect, test } from 'vitest';
import { check, type Rule } from './checker.ts';
import type { FinalState, History, Item, Operation, Outcome, Received } from './history.ts';

const AUTHOR = 1;
const READER = 2;
const STRANGER = 3;

/** A history of an author, a follower and a stranger, built one line after the other. */
class Story {
  readonly history: History = {
    users: [AUTHOR, READER, STRANGER],
    followsBefore: [[READER, AUTHOR]],
    operations: [],
    received: [],
    notes: [],
    mayLose: [],
    flightMs: Number.POSITIVE_INFINITY,
  };
  follows = new Set([`${READER}:${AUTHOR}`]);
  limit = 1_000;
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

  edit(item: Item, n: number, outcome: Outcome = 'ok', why?: string): Item {
    const key = item.text.split(' ')[0]!;
    const text = `${key} edit ${n}`;
    this.#add({ do: 'edit', user: item.author, key, text, ...(why && { why }) }, outcome);
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
      session: 1,
      gateway: 'g',
      opened: 0,
      kind: 'post',
      at,
      ...one,
    });
  }

  hello(recovered = true): void {
    this.#receive({ kind: 'hello', recovered });
  }

  frame(item: Item, kind: 'post' | 'edited' = 'post', user = READER): void {
    this.#receive({ kind, item, user });
  }

  /** Rules that the final feed of the reader, and the others' empty ones, break. */
  broken(feed: Item[], own: Item[] = []): Rule[] {
    const of = (user: number, items: Item[]) => ({ user, gateway: 'g', limit: this.limit, items });
    const final: FinalState = {
      follows: this.follows,
      feeds: [of(AUTHOR, own), of(READER, feed), of(STRANGER, [])],
    };
    return check(this.history, final).map(({ rule }) => rule);
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
        s.edit(s.create('a'), 1, 'refused', '404 no such post');
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

  test('after a request without an answer, either is right', () => {
    for (const [outcome, retried] of [
      ['unknown', false],
      ['ok', true],
    ] as const)
      expect(
        story((s) => {
          s.unfollow(outcome, retried);
          s.follow();
          s.follows.clear();
          return [];
        }),
      ).toEqual([]);
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

  test('keeps what an earlier page had', () => {
    const later = (shown: boolean) =>
      story((s) => {
        const a = s.create('a');
        s.read([a]);
        s.read(shown ? [a] : []);
        return [a];
      });
    expect(later(true)).toEqual([]);
    expect(later(false)).toEqual(['monotonic']);
  });
});

describe('a socket', () => {
  test('gets each post of the followed since its first session, once', () => {
    const frames = (count: number, gap = false) =>
      story((s) => {
        s.hello();
        const a = s.create('a');
        if (gap) s.hello(false);
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
        s.history.flightMs = flightMs;
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
});
