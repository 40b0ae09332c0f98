import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { counted } from '../../engine/model/counted.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { readRecording } from '../../engine/monitoring/top/recording.ts';
import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { topText } from '../../ui/top/printSnapshot.ts';
import { isAtTerminal, keepSmall, themeOf } from '../../ui/top/terminal.ts';
import { Trends } from '../../ui/top/trends.ts';
import Top from '../top.ts';

/** Columns of a snapshot for a pipe or a file. */
const WIDTH = 120;

interface Recorded {
  readonly file: string;
  readonly snapshots: number;
  readonly startedAt: string;
  readonly endedAt: string;
  /** The file ends within a snapshot. */
  readonly cut: boolean;
  readonly last: TopSnapshot;
}

export default class TopReplay extends BaseCommand {
  static override summary = 'Play what `top --record` has written';
  static override description = `Needs no cluster. Keys go back and on in time, and space pauses.

Without a terminal or with --json it prints the last view and exits 0.`;
  static override args = {
    file: Args.string({ required: true, description: 'file of `top --record`' }),
  };
  static override flags = {
    interval: Top.flags.interval,
    theme: Top.flags.theme,
    mouse: Top.flags.mouse,
  };
  static override examples = [
    '<%= config.bin %> top replay monday.ndjson.gz',
    '<%= config.bin %> top replay monday.ndjson --interval 0.5 --theme light',
  ];

  async run(): Promise<Recorded | undefined> {
    const { args, flags } = await this.parse(TopReplay);
    const intervalSeconds = flags.interval;
    const live = isAtTerminal() && !this.jsonEnabled();
    if (live) keepSmall();
    const trends = new Trends(Number.POSITIVE_INFINITY);
    let last: TopSnapshot | undefined;
    const { history, count, cut } = await readRecording(args.file, (snapshot) => {
      trends.record(snapshot);
      last = snapshot;
    });
    const { times } = history;
    const first = history.at(times[0]!)!;
    if (!live) {
      this.log(topText(last!, { width: WIDTH, theme: false }));
      const span = { startedAt: first.takenAt, endedAt: last!.takenAt };
      return { file: args.file, snapshots: count, ...span, cut, last: last! };
    }
    const { saveExport } = await import('../../engine/monitoring/top/files.ts');
    const { liveTop } = await import('../../ui/top/live.tsx');
    const { signal } = this;
    this.drawing = true;
    const view = liveTop({
      ...{ stdin: process.stdin, stdout: process.stdout, intervalSeconds, signal },
      theme: themeOf(flags.theme),
      mouse: flags.mouse,
      replay: { history, trends, cut },
      snapshot: () => first,
      refresh: () => {},
      act: () => Promise.reject(new FeedctlError('USAGE', 'a recording cannot be changed')),
      save: async ({ name, text, rows }) =>
        `${counted(rows, 'row is', 'rows are')} in ${await saveExport(name, text)}`,
    });
    try {
      await view.ended;
    } finally {
      this.drawing = false;
    }
    return undefined;
  }
}
