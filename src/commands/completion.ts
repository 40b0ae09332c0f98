import { Args } from '@oclif/core';
import { BaseCommand } from '../cli/baseCommand.ts';
import { SHELLS, type Shell, shellSnippet } from '../cli/completion/shells.ts';

export default class Completion extends BaseCommand {
  static override summary = 'Print a script that completes commands, flags and names in a shell';
  static override description = `Bash: add \`source <(feedctl completion bash)\` to ~/.bashrc.

Zsh: add \`source <(feedctl completion zsh)\` to ~/.zshrc, after compinit.

Fish: add \`feedctl completion fish | source\` to config.fish.`;
  static override args = {
    shell: Args.string({ description: 'name of the shell', options: [...SHELLS], required: true }),
  };
  static override examples = ['<%= config.bin %> completion zsh', '<%= config.bin %> completion fish --json'];

  async run(): Promise<{ shell: Shell; script: string }> {
    const { args } = await this.parse(Completion);
    const shell = args.shell as Shell;
    const script = shellSnippet(shell, process.env.npm_command === 'exec' ? 'npx' : 'feedctl');
    this.log(script.trimEnd());
    return { shell, script };
  }
}
