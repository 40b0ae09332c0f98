export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/**
 * Scripts for each shell. They run `feedctl complete` at every Tab, because contexts and nodes change.
 * Bash starts another word after `=` and `:`, so it gets only the part after them. It may be version 3.2,
 * that of macOS.
 */
const SNIPPETS: Readonly<Record<Shell, string>> = {
  bash: `_feedctl_complete() {
  local line="\${COMP_LINE:0:COMP_POINT}" word found
  local -a words
  read -ra words <<< "$line"
  [[ "$line" == *[[:space:]] ]] && words+=("")
  word="\${words[\${#words[@]}-1]}"
  COMPREPLY=()
  while IFS= read -r found; do
    COMPREPLY+=("\${found#"\${word%"\${word##*[=:]}"}"}")
  done < <(feedctl complete -- "\${words[@]:1}" 2>/dev/null)
}
complete -o default -F _feedctl_complete feedctl
`,
  zsh: `_feedctl() {
  local -a found
  found=("\${(@f)$(feedctl complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "$found" ]]; then compadd -- "\${found[@]}"; else _files; fi
}
compdef _feedctl feedctl
`,
  fish: `function __feedctl_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l found (feedctl complete -- $words[2..-1] 2>/dev/null)
  if set -q found[1]
    string join \\n -- $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c feedctl -f -a '(__feedctl_complete)'
`,
};

export const shellSnippet = (shell: Shell): string => SNIPPETS[shell];
