import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import type { KeyRotation } from '../../engine/gateway/tokens.ts';

export default class GatewayRotateKey extends BaseCommand {
  static override summary = 'Sign tokens with a new key from now on';
  static override description = `Existing tokens stay valid until they expire.

With --revoke, for a key that has leaked, they end at every gateway within 5 seconds:
open WebSockets close, and all users have to log in again.`;
  static override flags = {
    revoke: Flags.boolean({ description: 'reject all tokens signed with earlier keys', default: false }),
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> gateway rotate-key',
    '<%= config.bin %> gateway rotate-key --revoke --yes --json',
  ];

  async run(): Promise<KeyRotation> {
    const { flags } = await this.parse(GatewayRotateKey);
    const { revoke, 'dry-run': dryRun } = flags;
    if (revoke && !dryRun) await this.confirm('Every user will have to log in again. Continue?', flags.yes);
    const { rotateTokenKey } = await import('../../engine/gateway/tokens.ts');
    const rotation = await this.withCluster(flags, ({ db }) => rotateTokenKey(db, { revoke, dryRun }));
    this.log(dryRun ? 'Would sign with a new key.' : `Tokens are signed with key ${rotation.keyId}.`);
    for (const { keyId, until } of rotation.accepted) this.log(`Key ${keyId} is accepted until ${until}.`);
    for (const keyId of rotation.revoked) this.log(`Key ${keyId} is revoked.`);
    return rotation;
  }
}
