import { between, type Fault } from '../fault.ts';

export const diskFull: Fault = {
  name: 'disk-full',
  title: 'the disk of the database is full, and room is made later',
  missing: ({ database }) => database.disksMissing,
  async run({ cluster, random, note }) {
    const how = random.pick(['data', 'log'] as const);
    note(how === 'data' ? 'the disk is full' : 'the disk is full, and the log needs a new file');
    await cluster.database.fillDisk(how);
    try {
      await between(random, 3_000, 6_000);
    } finally {
      await cluster.database.makeRoom();
      note('the disk has room');
    }
  },
};
