import { Args, Command, Flags, loadHelpClass } from '@oclif/core';

/**
 * Prints the same as `--help`. oclif has a plugin for it, but that costs every start 5 ms: oclif matches its
 * name against all dependencies, and reads its manifest.
 */
export default class Help extends Command {
  static override summary = 'Display help for <%= config.bin %>.';
  static override strict = false;
  static override args = {
    command: Args.string({ description: 'command or topic' }),
  };
  static override flags = {
    'nested-commands': Flags.boolean({ char: 'n', description: 'list the commands of all topics' }),
  };
  static override examples = [
    '<%= config.bin %> help queue purge',
    '<%= config.bin %> help --nested-commands',
  ];

  async run(): Promise<void> {
    const { argv, flags } = await this.parse(Help);
    const HelpClass = await loadHelpClass(this.config);
    const help = new HelpClass(this.config, { all: flags['nested-commands'] });
    await help.showHelp(argv as string[]);
  }
}
