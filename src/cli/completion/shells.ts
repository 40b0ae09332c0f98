// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are variables of the shells.

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** How the shell runs feedctl: a user of npx has no `feedctl` on the PATH. */
export type Runner = 'feedctl' | 'npx';

const NPX_IN_FISH = "npx -n '__fish_seen_subcommand_from feedctl'";

interface Parts {
  /** Command line that runs feedctl. */
  readonly run: string;
  readonly npx: boolean;
}

/**
 * Scripts for each shell. They run `feedctl complete` at every Tab, because contexts and ids change. A user
 * of npx gets a completion of `npx feedctl`, which leaves other packages alone.
 * Bash starts another word after `=` and `:`, so it gets only the part after them. It may be version 3.2,
 * that of macOS.
 */
const SNIPPETS: Readonly<Record<Shell, (parts: Parts) => string[]>> = {
  bash: ({ run, npx }) => [
    '_feedctl_complete() {',
    '  local line="${COMP_LINE:0:COMP_POINT}" word found',
    '  local -a words',
    '  read -ra words <<< "$line"',
    '  [[ "$line" == *[[:space:]] ]] && words+=("")',
    '  COMPREPLY=()',
    ...(npx
      ? ['  [[ "${words[1]}" == feedctl && ${#words[@]} -gt 2 ]] || return', '  words=("${words[@]:1}")']
      : []),
    '  word="${words[${#words[@]}-1]}"',
    '  while IFS= read -r found; do',
    '    COMPREPLY+=("${found#"${word%"${word##*[=:]}"}"}")',
    `  done < <(${run} complete -- "\${words[@]:1}" 2>/dev/null)`,
    '}',
    `complete -o default -F _feedctl_complete ${npx ? 'npx' : 'feedctl'}`,
  ],
  zsh: ({ run, npx }) => [
    '_feedctl() {',
    '  local -a lines shown',
    "  local tab=$'\\t' line",
    ...(npx
      ? [
          '  [[ "${words[2]}" == feedctl && CURRENT -gt 2 ]] || { _files; return; }',
          '  shift words',
          '  (( CURRENT-- ))',
        ]
      : []),
    `  lines=("\${(@f)$(${run} complete --described -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")`,
    '  if [[ -z "$lines" ]]; then _files; return; fi',
    '  for line in "${lines[@]}"; do shown+=("${line/$tab/  -- }"); done',
    '  compadd -l -d shown -- "${(@)lines%%$tab*}"',
    '}',
    `compdef _feedctl ${npx ? 'npx' : 'feedctl'}`,
  ],
  fish: ({ run, npx }) => [
    'function __feedctl_complete',
    '  set -l words (commandline -opc) (commandline -ct)',
    ...(npx ? ['  set -e words[1]'] : []),
    `  set -l found (${run} complete --described -- $words[2..-1] 2>/dev/null)`,
    '  if set -q found[1]',
    '    string join \\n -- $found',
    '  else',
    '    __fish_complete_path (commandline -ct)',
    '  end',
    'end',
    `complete -c ${npx ? NPX_IN_FISH : 'feedctl'} -f -a '(__feedctl_complete)'`,
  ],
};

export function shellSnippet(shell: Shell, runner: Runner): string {
  const npx = runner === 'npx';
  const lines = SNIPPETS[shell]({ run: npx ? 'npx --no-install feedctl' : 'feedctl', npx });
  return `${lines.join('\n')}\n`;
}
