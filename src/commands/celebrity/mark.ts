import { CelebrityChange } from '../../cli/celebrityCommand.ts';

export default class CelebrityMark extends CelebrityChange {
  static override summary = 'Merge an author’s posts when feeds are read, instead of fanning them out';
  static override description =
    'Goes from push over both to pull: no reader misses a post or sees one twice. Run it again after an interruption: it finishes.';
  static override examples = [
    '<%= config.bin %> celebrity mark 88',
    '<%= config.bin %> celebrity mark 88 --dry-run --json',
  ];

  protected readonly direction = 'mark';
}
