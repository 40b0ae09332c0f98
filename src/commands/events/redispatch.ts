import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, timeFlag } from '../../cli/flags/common.ts';
import { counted } from '../../engine/model/counted.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { EVENT_TYPES } from '../../engine/model/event.ts';
import { firstIdAt, MAX_ID, parseId } from '../../engine/model/ids.ts';
import type { Redispatched } from '../../engine/queues/redispatch.ts';
import { formatCount, formatDuration } from '../../ui/terminal/format.ts';

export default class EventsRedispatch extends BaseCommand {
  static override summary = 'Plan events of the log again, for instance after a purge';
  static override description =
    `Uses the bulk lane, oldest events first, and pushes nothing; it is safe to repeat.

--from and --to are times of the event, --posted-from and --posted-to times of the post.
After Ctrl-C (exit 3) the same command, or \`operation resume\`, continues it.`;
  static override flags = {
    from: timeFlag({
      aliases: ['since'],
      description: 'only events of this time and later',
      exclusive: ['from-id'],
    }),
    'from-id': Flags.string({ description: 'only this event and later ones, by id' }),
    to: timeFlag({
      aliases: ['before'],
      description: 'only events before this time',
      exclusive: ['to-id'],
    }),
    'to-id': Flags.string({ description: 'only events up to this one, by id' }),
    'posted-from': timeFlag({ description: 'only events of posts of this time and later' }),
    'posted-to': timeFlag({ description: 'only events of posts before this time' }),
    author: Flags.string({ description: 'only events of this author or follower' }),
    type: Flags.option({
      options: EVENT_TYPES,
      multiple: true,
      description: 'only events of this type; may be repeated',
    })(),
    rate: Flags.integer({ description: 'maximum events a second', min: 1 }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> events redispatch --from 2h --dry-run',
    '<%= config.bin %> events redispatch --posted-from 2020-01-01 --posted-to 2021-01-01 --from 1d',
    '<%= config.bin %> events redispatch --from 2026-07-01T03:00:00Z --author 42 --type post.created --json',
  ];

  async run(): Promise<Redispatched> {
    const { flags, raw } = await this.parse(EventsRedispatch);
    const { from, 'from-id': fromId, 'posted-from': postedFrom, 'posted-to': postedTo } = flags;
    if (!from && !fromId && !postedFrom)
      throw new FeedctlError('USAGE', 'the range has no beginning: pass --from, --from-id or --posted-from');
    const posts = {
      from: postedFrom ? idAt(postedFrom) : 1,
      to: postedTo ? idAt(postedTo) : MAX_ID,
    };
    const range = {
      from: from ? idAt(from) : fromId ? parseId(fromId, 'event') : 1,
      to: flags.to ? idAt(flags.to) : flags['to-id'] ? parseId(flags['to-id'], 'event') + 1 : MAX_ID,
      ...(flags.author !== undefined && { userId: parseId(flags.author, 'user') }),
      ...(flags.type && { types: flags.type }),
      ...((postedFrom || postedTo) && { posts }),
    };
    if (range.to <= range.from || posts.to <= posts.from)
      throw new FeedctlError('USAGE', 'the range ends before it begins');
    const asked = raw
      .filter((token) => token.type === 'flag' && RANGE_FLAGS.has(token.flag))
      .map((token) => `${(token as { flag: string }).flag}=${token.input}`)
      .sort();
    const { redispatch } = await import('../../engine/queues/redispatch.ts');
    const { signal, onResume } = this;
    const result = await this.withProgress('dispatching', (progress) =>
      this.withCluster(flags, (cluster) =>
        redispatch(cluster, asked.join(' '), range, {
          signal,
          onResume,
          dryRun: flags['dry-run'],
          ...(flags.rate !== undefined && { rate: flags.rate }),
          onProgress: (done, total) => progress.update({ done, total, unit: 'events' }),
        }),
      ),
    );
    const counts = Object.entries(result.matched).map(([type, count]) => `${formatCount(count)} ${type}`);
    if (result.dryRun) this.log(`Would dispatch again: ${counts.join(', ') || 'nothing'}.`);
    else
      this.log(`Dispatched ${counted(result.events, 'event')} again in ${formatDuration(result.seconds)}.`);
    if (result.nextId !== null) {
      this.logToStderr(`Stopped before event ${result.nextId}: the same command continues there.`);
      process.exitCode = 3;
    }
    return result;
  }
}

/** Flags that choose events. */
const RANGE_FLAGS = new Set(['from', 'from-id', 'to', 'to-id', 'posted-from', 'posted-to', 'author', 'type']);

const idAt = (time: Date): number => Math.max(1, firstIdAt(time.getTime()));
