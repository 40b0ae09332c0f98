// Writes docs/errors.md: every error code with its exit status, meaning, reason and fix.
import { writeFileSync } from 'node:fs';
import { explainedErrors } from '../src/engine/model/errorTexts.ts';
import { wrap } from './markdown.ts';

const INTRODUCTION = `# Errors

Every failure has a stable code. A command prints it as text on stderr:

\`\`\`
Error: there is no user 99 (USER_NOT_FOUND)
  Try: Check the id, or create the user with \`feedctl user create\`.
\`\`\`

With \`--json\` it is the one JSON value on stdout:

\`\`\`json
{ "error": { "code": "USER_NOT_FOUND", "message": "there is no user 99", "suggestions": ["..."] } }
\`\`\`

The exit status is the same either way: 0 done, 1 failed, 2 wrong usage, 3 partly done. Some commands exit 1
without an error: \`feed verify\`, \`status\` and other checks if they find a fault, \`user erase\` if its
scan finds remaining data. \`replay\` and \`seed generate\` exit 3 with any code if a server goes away
after the first post. A second Ctrl-C ends a command immediately, with 130.
`;

/** Returns the text of docs/errors.md. */
export const errorsPage = (): string => [INTRODUCTION, ...explainedErrors().map(section)].join('\n');

function section({ code, exit, what, why, fix }: ReturnType<typeof explainedErrors>[number]): string {
  const lines = [
    ...wrap(`Exit status ${exit}. ${what}`),
    '',
    ...wrap(`- **Why:** ${why}`, '  '),
    ...wrap(`- **Fix:** ${fix}`, '  '),
  ];
  return `## ${code}\n\n${lines.join('\n')}\n`;
}

if (import.meta.main) writeFileSync(new URL('../docs/errors.md', import.meta.url), errorsPage());
