import { CelebrityChange } from '../../cli/celebrityCommand.ts';

export default class CelebrityUnmark extends CelebrityChange {
  static override summary = 'Fan an author’s posts out again';
  static override description =
    'Goes from pull over both to push: no reader misses a post or sees one twice. Run it again after an interruption: it finishes.';
  static override examples = [
    '<%= config.bin %> celebrity unmark 88',
    '<%= config.bin %> celebrity unmark 88 --dry-run --json',
  ];

  protected readonly direction = 'unmark';
}
