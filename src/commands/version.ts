import { BaseCommand } from '../cli/baseCommand.ts';
import type { BuildInfo } from '../engine/config/build.ts';

interface Versions extends BuildInfo {
  readonly version: string;
  /** Version of Node. */
  readonly node: string;
  /** Operating system and processor, such as `linux-x64`. */
  readonly platform: string;
}

export default class Version extends BaseCommand {
  static override summary = 'Show the versions of feedctl, of Node and of its PostgreSQL';
  static override description =
    'PostgreSQL is that of `feedctl up`. For the servers of a cluster, see `feedctl status`.';
  static override examples = ['<%= config.bin %> version', '<%= config.bin %> version --json'];

  async run(): Promise<Versions> {
    await this.parse(Version);
    const { buildInfo } = await import('../engine/config/build.ts');
    const { commit, modified, postgres } = await buildInfo();
    const { version, platform, arch } = this.config;
    const versions = {
      version,
      commit,
      modified,
      node: process.versions.node,
      platform: `${platform}-${arch}`,
      postgres,
    };
    const changes = modified ? ', with changes' : '';
    this.log(`feedctl     ${version}${commit ? ` (commit ${commit.slice(0, 12)}${changes})` : ''}`);
    this.log(`Node        ${versions.node}`);
    this.log(`platform    ${versions.platform}`);
    this.log(`PostgreSQL  ${postgres ?? 'none for this machine: name a server with --database-url'}`);
    return versions;
  }
}
