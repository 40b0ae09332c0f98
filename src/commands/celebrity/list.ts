import { BaseCommand } from '../../cli/baseCommand.ts';
import { type Celebrity, listCelebrities } from '../../engine/store/celebrities.ts';
import { celebritiesTable } from '../../ui/tables/celebrities.ts';

export default class CelebrityList extends BaseCommand {
  static override summary = 'List the authors whose posts are merged when a feed is read';
  static override examples = ['<%= config.bin %> celebrity list', '<%= config.bin %> celebrity list --json'];

  async run(): Promise<{ celebrities: Celebrity[] }> {
    const { flags } = await this.parse(CelebrityList);
    const celebrities = await this.withCluster(flags, (cluster) => listCelebrities(cluster.db));
    const borders = Boolean(process.stdout.isTTY);
    this.log(celebrities.length === 0 ? 'No celebrities.' : celebritiesTable(celebrities, { borders }));
    return { celebrities };
  }
}
