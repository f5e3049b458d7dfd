/** `make cluster-up`: a small real Kubernetes on this machine. */
import { Cluster } from './cluster.ts';

const c = await Cluster.start({ prefix: 'tt-try', nodes: 2, outlives: true }, console.log);
console.log(await c.kubectl.run('get', 'nodes', '-o', 'wide'));
