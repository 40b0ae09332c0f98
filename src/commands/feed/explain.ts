import { BaseCommand } from '../../cli/baseCommand.ts';
import { postArg, userArg } from '../../cli/flags/common.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { Explanation } from '../../engine/feed/explain/explain.ts';
import { counted } from '../../engine/model/counted.ts';
import { formatDuration } from '../../ui/terminal/format.ts';

export default class FeedExplain extends BaseCommand {
  static override summary = 'Show why a post is or is not in a home feed';
  static override description =
    `Lists the steps of the post towards that feed with their recorded times. Exits 1 if
the post is missing or became a dead letter.`;
  static override args = {
    user: userArg({ description: 'id of the user whose feed it is', required: true }),
    post: postArg({ description: 'id of the post', required: true }),
  };
  static override flags = tableFlags;
  static override examples = [
    '<%= config.bin %> feed explain 42 2184639875481600',
    '<%= config.bin %> feed explain 42 2184639875481600 --json',
  ];

  async run(): Promise<Explanation> {
    const { args, flags } = await this.parse(FeedExplain);
    const { explain } = await import('../../engine/feed/explain/explain.ts');
    const { signal } = this;
    const result = await this.withCluster(flags, (cluster) =>
      explain(cluster, args.user, args.post, { signal }),
    );
    this.log(`${result.verdict}: ${result.reason}`);
    if (result.pending) {
      const { behind, etaSeconds } = result.pending;
      const eta = etaSeconds === null ? 'not known' : formatDuration(etaSeconds);
      this.log(
        `behind at most ${counted(behind, 'message or event', 'messages or events')}, there in: ${eta}`,
      );
    }
    if (result.mend) this.log(`Try: ${result.mend}`);
    await this.table(
      ['step', 'state', 'at', 'note'],
      result.steps.map(({ step, state, at, detail }) => [step, state, at?.toISOString() ?? '', detail]),
    );
    if (!result.ok) process.exitCode = 1;
    return result;
  }
}
