import { between, type Fault } from '../fault.ts';

export const operatorsAtWork: Fault = {
  name: 'operators-at-work',
  title: 'operators trim and rebuild feeds, mark and unmark celebrities, and hold up a lane',
  async run({ cluster, random, history, note }) {
    const run = async (...args: string[]) => {
      note(`feedctl ${args.join(' ')}`);
      const { status, stdout, stderr } = await cluster.run(...args, '--json');
      if (status !== 0) throw new Error(`feedctl ${args.join(' ')} ended with ${status}: ${stdout}${stderr}`);
    };
    const author = String(random.pick(history.users));
    await run('feed', 'rebuild', '--all');
    await run('feed', 'trim', '--all', '--keep', '3');
    await run('fanout', 'pause', '--lane', 'live');
    // Users post, and then unfollow: the rows of these posts wait in the lane, and a mark waits for them too.
    await between(random, 2_000, 4_000);
    const marking = run('celebrity', 'mark', author);
    await between(random, 1_500, 3_000);
    await Promise.all([marking, run('fanout', 'resume', '--lane', 'live')]);
    await run('feed', 'trim', '--all', '--keep', '5');
    // What was written too late for a mark shows as long as the author is marked.
    if (random.chance(0.5)) await run('celebrity', 'unmark', author);
  },
};
