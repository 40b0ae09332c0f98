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
    await between(random, 300, 1_000);
    // A mark waits for the lane, so it runs while the lane is resumed.
    await Promise.all([run('celebrity', 'mark', author), run('fanout', 'resume', '--lane', 'live')]);
    await run('feed', 'trim', '--all', '--keep', '5');
    await run('celebrity', 'unmark', author);
  },
};
