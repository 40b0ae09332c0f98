import { CelebrityChange } from '../../cli/celebrityCommand.ts';

export default class CelebrityMark extends CelebrityChange {
  static override summary = 'Merge an author’s posts when feeds are read, instead of fanning them out';
  static override description =
    `Changes the author from push through both to pull, so that no reader misses a post or
sees one twice. After an interruption, run it again to finish.`;
  static override examples = [
    '<%= config.bin %> celebrity mark 88',
    '<%= config.bin %> celebrity mark 88 --dry-run --json',
  ];

  protected readonly direction = 'mark';
}
