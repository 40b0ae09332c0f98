import { Args } from '@oclif/core';
import { BaseCommand } from '../cli/baseCommand.ts';
import { SHELLS, type Shell, shellSnippet } from '../cli/completion/shells.ts';

export default class Completion extends BaseCommand {
  static override summary = 'Print what a shell needs to complete commands, flags and names at Tab';
  static override description =
    'Names are those of now: contexts, queues, and the nodes of the database where that answers within a second. Bash: `source <(feedctl completion bash)` in ~/.bashrc; zsh the same in ~/.zshrc, behind compinit; fish: `feedctl completion fish | source` in config.fish.';
  static override args = {
    shell: Args.string({ description: 'the shell', options: [...SHELLS], required: true }),
  };
  static override examples = [
    '<%= config.bin %> completion bash >> ~/.bashrc',
    '<%= config.bin %> completion fish --json',
  ];

  async run(): Promise<{ shell: Shell; script: string }> {
    const { args } = await this.parse(Completion);
    const shell = args.shell as Shell;
    const script = shellSnippet(shell);
    this.log(script.trimEnd());
    return { shell, script };
  }
}
