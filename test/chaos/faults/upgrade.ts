import { between, type Fault } from '../fault.ts';

export const rollingUpgrade: Fault = {
  name: 'rolling-upgrade',
  title: 'roles of the previous release are replaced by new ones, one after the other',
  needs: 'previous release',
  async run({ cluster, random, note }) {
    note('feedctl migrate, of the new release');
    cluster.upgrade();
    await cluster.json('migrate');
    // A role whose machine fails before its turn starts with the new release: the old one refuses the schema.
    const failed = random.pick(cluster.workers);
    note(`kill -9 of ${failed.name}, still of the previous release`);
    await failed.kill();
    failed.binary = undefined;
    await failed.start();
    for (const role of cluster.roles.filter((one) => one !== failed)) {
      note(`${role.name} is replaced`);
      await role.stop();
      role.binary = undefined;
      await role.start();
      await between(random, 300, 1_500);
    }
  },
};
