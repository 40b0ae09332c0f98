import { Args } from '@oclif/core';
import { BaseCommand } from '../cli/baseCommand.ts';
import { tableFlags } from '../cli/flags/output.ts';
import { nearest } from '../cli/nearest.ts';
import { ERRORS, type ErrorCode, FeedctlError } from '../engine/model/errors.ts';

interface Explained {
  readonly code: string;
  /** Exit status of a command that fails with it. */
  readonly exit: number;
  readonly what: string;
  readonly why: string;
  readonly fix: string;
}

export default class ErrorsCommand extends BaseCommand {
  static override summary = 'Explain an error code: what it means, why it occurs and how to fix it';
  static override description = 'Without a code, lists all of them. docs/errors.md has the same texts.';
  static override args = { code: Args.string({ description: 'code in brackets at the end of an error' }) };
  static override flags = tableFlags;
  static override examples = [
    '<%= config.bin %> errors',
    '<%= config.bin %> errors CLUSTER_NOT_RUNNING',
    '<%= config.bin %> errors CLUSTER_NOT_RUNNING --json',
  ];

  async run(): Promise<{ errors: Explained[] }> {
    const { args } = await this.parse(ErrorsCommand);
    const { explainedErrors } = await import('../engine/model/errorTexts.ts');
    const all = explainedErrors();
    if (args.code === undefined) {
      await this.table(
        ['code', 'exit', 'meaning'],
        all.map(({ code, exit, what }) => [code, exit, firstSentence(withoutLinks(what))]),
      );
      return { errors: all };
    }
    const code = codeOf(args.code);
    const found = all.filter((one) => one.code === code);
    const { wrap } = await import('../ui/terminal/cells.ts');
    const width = Math.min(process.stdout.columns || MAX_WIDTH, MAX_WIDTH);
    for (const { exit, what, why, fix } of found) {
      this.log(`${code}, exit status ${exit}\n`);
      for (const [title, text] of [
        ['', what],
        ['Why: ', why],
        ['Fix: ', fix],
      ] as const)
        this.log(
          `${wrap(`${title}${withoutLinks(text)}`, width).join('\n')}${title === 'Fix: ' ? '' : '\n'}`,
        );
    }
    return { errors: found };
  }
}

/** Widest text: longer lines are hard to read. */
const MAX_WIDTH = 100;

/** Returns the code that was typed, in any case. Throws USAGE, with the code that was meant. */
function codeOf(text: string): ErrorCode {
  const code = text.toUpperCase().replaceAll(/[- ]/g, '_').replaceAll(/[()]/g, '');
  if (code in ERRORS) return code as ErrorCode;
  const meant = nearest(code, Object.keys(ERRORS));
  throw new FeedctlError('USAGE', `there is no error ${text}${meant ? `: did you mean ${meant}?` : ''}`, {
    suggestions: ['See all codes with `feedctl errors`.'],
  });
}

/** Turns links of the documents into their text and path. */
const withoutLinks = (text: string): string => text.replaceAll(/\[([^\]]+)\]\(([^)]+)\)/g, '$1 (docs/$2)');

const firstSentence = (text: string): string => /^.*?[.:](?=\s|$)/.exec(text)?.[0] ?? text;
