/** Tortie on a real Kubernetes. One cluster for all: a minute's worth of set-up, and Tortie must bear what the others do to it. */
import { afterAll, beforeAll } from '@jest/globals';
import { Bed } from './bed.ts';
import { configuration } from './sections/configuration.ts';
import { ebpf } from './sections/ebpf.ts';
import { faults } from './sections/faults.ts';
import { installation } from './sections/installation.ts';
import { lifecycle } from './sections/lifecycle.ts';
import { policies } from './sections/policies.ts';
import { removal } from './sections/removal.ts';
import { traffic } from './sections/traffic.ts';

let started: Bed | undefined;
beforeAll(async () => {
  started = await Bed.start();
}, 900_000); // The first time Go builds Kubernetes.
afterAll(() => started?.[Symbol.asyncDispose]());

const bed = () => {
  if (started === undefined) throw new Error('the cluster did not start');
  return started;
};

installation(bed);
traffic(bed);
policies(bed);
configuration(bed);
ebpf(bed);
lifecycle(bed);
faults(bed);
// Last: it takes Tortie away.
removal(bed);
