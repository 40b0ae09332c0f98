import { CelebrityChange } from '../../cli/celebrityCommand.ts';

export default class CelebrityUnmark extends CelebrityChange {
  static override summary = 'Fan an author’s posts out again';
  static override description =
    `Changes the author from pull through both to push, so that no reader misses a post or
sees one twice. After an interruption, run it again to finish.`;
  static override examples = [
    '<%= config.bin %> celebrity unmark 88',
    '<%= config.bin %> celebrity unmark 88 --dry-run --json',
  ];

  protected readonly direction = 'unmark';
}
