import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { distDir } from '../lab/dist.ts';
import type { Say } from './binaries.ts';
import type { Cluster } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';

/** What `make image` builds. */
export const nodeImage = join(distDir, 'image/node.tar');

/** The text of one of the manifests. */
export function manifest(name: string): string {
  return readFileSync(fileURLToPath(new URL(`../../manifests/${name}`, import.meta.url)), 'utf8');
}

/** Gives each node Tortie's image, as a registry would. */
export async function importTortie(cluster: Cluster): Promise<void> {
  if (!existsSync(nodeImage)) throw new Error(`${nodeImage} is missing: make image builds it`);
  await Promise.all(cluster.nodes.map((node) => node.importImage(nodeImage)));
}

/** What a user does: `kubectl apply -f manifests/tortie.yaml`; resolves when every node is Ready and names are answered. */
export async function installTortie(cluster: Cluster, say: Say = () => {}): Promise<void> {
  say('kubectl apply -f manifests/tortie.yaml');
  await cluster.kubectl.apply(manifest('tortie.yaml'));
  await waitForTortie(cluster.kubectl, say);
}

/** Resolves when the agents run, the nodes are Ready and the name server answers. */
export async function waitForTortie(kubectl: Kubectl, say: Say = () => {}): Promise<void> {
  const system = '--namespace=kube-system';
  await kubectl.run('rollout', 'status', system, 'daemonset/tortie-node', '--timeout=240s');
  say('agents run on every node');
  await kubectl.run('wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=240s');
  say('every node is Ready');
  await kubectl.run('rollout', 'status', system, 'deployment/coredns', '--timeout=240s');
  say('the name server answers');
}
