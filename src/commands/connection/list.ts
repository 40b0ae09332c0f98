import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import type { ConnectionList as Listed } from '../../engine/gateway/operator/connections.ts';
import { counted } from '../../engine/model/counted.ts';
import { parseId } from '../../engine/model/ids.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class ConnectionList extends BaseCommand {
  static override summary = 'List open WebSockets with user, gateway, age and buffered bytes';
  static override description =
    `Asks every gateway. Exits 3 if a gateway does not answer; its connections are missing
in the list.`;
  static override flags = {
    ...listFlags,
    user: Flags.string({ description: 'only connections of this user' }),
    limit: Flags.integer({
      description: 'maximum sockets of each gateway',
      default: 100,
      min: 0,
      max: 10_000,
    }),
  };
  static override examples = [
    '<%= config.bin %> connection list',
    '<%= config.bin %> connection list --user 42 --json',
  ];

  async run(): Promise<Listed> {
    const { flags } = await this.parse(ConnectionList);
    const userId = flags.user === undefined ? undefined : parseId(flags.user, 'user');
    const { listConnections } = await import('../../engine/gateway/operator/connections.ts');
    const query = { limit: flags.limit, ...(userId !== undefined && { userId }) };
    const result = await this.withCluster(flags, ({ db }) => listConnections(db, query));
    const rows = result.connections.map((one) => [
      String(one.userId),
      one.gatewayUrl,
      one.address,
      one.since,
      one.bufferedBytes,
      one.delivered,
    ]);
    await this.table(['user', 'gateway', 'address', 'since', 'buffered bytes', 'delivered'], rows, {
      empty: 'No connections.',
    });
    if (rows.length > 0)
      this.logToStderr(`${formatCount(rows.length)} of ${counted(result.total, 'connection')}.`);
    for (const { reason } of result.unreachable) this.logToStderr(`Not known: ${reason}`);
    if (result.unreachable.length > 0) process.exitCode = 3;
    return result;
  }
}
