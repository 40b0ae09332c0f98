import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import { type Celebrity, listCelebrities } from '../../engine/store/celebrities.ts';
import { celebrityRow, USER_COLUMNS } from '../../ui/columns/users.ts';

export default class CelebrityList extends BaseCommand {
  static override summary = 'List the authors whose posts are merged when a feed is read';
  static override flags = listFlags;
  static override examples = ['<%= config.bin %> celebrity list', '<%= config.bin %> celebrity list --json'];

  async run(): Promise<{ celebrities: Celebrity[] }> {
    const { flags } = await this.parse(CelebrityList);
    const celebrities = await this.withCluster(flags, (cluster) => listCelebrities(cluster.db));
    await this.list(USER_COLUMNS, celebrities.map(celebrityRow), 'No celebrities.');
    return { celebrities };
  }
}
