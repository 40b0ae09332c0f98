import { between, type Fault } from '../fault.ts';

/** Belongs to a test run, and `--list` runs outside of one. */
const faketime = () => import('../../support/faketime.ts');

export const clocksJump: Fault = {
  name: 'clocks-jump',
  title: 'the clock of a gateway or a worker jumps forth and back',
  missing: async () => ((await faketime()).canFakeTime() ? undefined : 'libfaketime is missing'),
  async run({ cluster, random, history, note }) {
    history.clocksWrong = true;
    const role = random.pick(cluster.roles);
    const clock = await (await faketime()).machineClock(0);
    await role.stop();
    await role.start({ env: clock.env });
    for (const seconds of [3, -3, 3_600, -3_600, 0]) {
      note(`the clock of ${role.name} is ${seconds} s ahead`);
      await clock.set(seconds);
      await between(random, 500, 1_500);
    }
    await role.stop();
    await role.start();
  },
};
