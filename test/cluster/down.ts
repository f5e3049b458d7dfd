/** `make cluster-down`: removes what `make cluster-up` made, and what test clusters left whose processes died. */
import { existsSync, readdirSync } from 'node:fs';
import { Cluster, clustersDir, userPrefix } from './cluster.ts';

for (const prefix of existsSync(clustersDir) ? readdirSync(clustersDir) : []) {
  const maker = /^tt(\d+)-/.exec(prefix)?.[1];
  if (maker === undefined ? prefix !== userPrefix : existsSync(`/proc/${maker}`)) continue;
  console.log(`removing the cluster ${prefix}`);
  await Cluster.attach(prefix).destroy();
}
