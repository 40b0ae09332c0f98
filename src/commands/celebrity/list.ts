import { BaseCommand } from '../../cli/baseCommand.ts';
import { type Celebrity, listCelebrities } from '../../engine/store/celebrities.ts';

export default class CelebrityList extends BaseCommand {
  static override summary = 'List the authors whose posts are merged when a feed is read';
  static override examples = ['<%= config.bin %> celebrity list', '<%= config.bin %> celebrity list --json'];

  async run(): Promise<{ celebrities: Celebrity[] }> {
    const { flags } = await this.parse(CelebrityList);
    const celebrities = await this.withCluster(flags, (cluster) => listCelebrities(cluster.db));
    const rows = celebrities.map((row) => [
      String(row.userId),
      row.state,
      row.pinned ? 'by hand' : '',
      row.followers,
      row.posts,
    ]);
    await this.table(['user', 'state', 'pinned', 'followers', 'posts'], rows, { empty: 'No celebrities.' });
    return { celebrities };
  }
}
