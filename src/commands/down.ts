import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/baseCommand.ts';

export default class Down extends BaseCommand {
  static override summary = 'Stop the embedded cluster of a data directory';
  static override examples = [
    '<%= config.bin %> down',
    '<%= config.bin %> down --data-dir /tmp/feeds --timeout 10',
  ];
  static override flags = {
    timeout: Flags.integer({ description: 'maximum seconds to wait', default: 60, min: 1 }),
  };

  async run(): Promise<{ stopped: boolean; dataDir: string }> {
    const { flags } = await this.parse(Down);
    const { dataDir } = await this.loadConfig(flags);
    const { stopCluster } = await import('../engine/config/clusterState.ts');
    const stopped = await stopCluster(dataDir, flags.timeout * 1000);
    this.log(stopped ? 'Stopped.' : `No cluster runs in ${dataDir}.`);
    return { stopped, dataDir };
  }
}
