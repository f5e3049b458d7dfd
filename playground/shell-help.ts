import type { Lab } from '../test/lab/lab.ts';
import { distDir } from '../test/lab/dist.ts';

/** Prints what to try by hand while the lab stands. */
export function handOver(lab: Lab): void {
  const node = lab.node(0);
  const pod = node.pods[0];
  const other = lab.node(1).pods[0];
  const tortie = `${distDir}/bin/tortie`;
  console.log(`
It stays until Ctrl-C. To try by hand, in another terminal:
  ${tortie} status --run-dir=${node.runDir}
  ${tortie} endpoints --run-dir=${node.runDir}
  ${tortie} ipam show --run-dir=${node.runDir}
  ls ${lab.datastoreDir}       # the datastore: change felix.yaml, pools.yaml and look at status${
    pod === undefined || other === undefined
      ? ''
      : `
  ip netns exec ${pod.netns} ping ${other.ipv4}`
  }
`);
}
