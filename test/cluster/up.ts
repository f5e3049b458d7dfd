/** `make cluster-up`: a small real Kubernetes on this machine, to try Tortie on. It stays until `make cluster-down`. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { kubernetesProgram, type Say } from './binaries.ts';
import { Cluster, clustersDir, userPrefix } from './cluster.ts';
import { agnhostImage } from './images.ts';
import { importTortie, installTortie } from './tortie.ts';

const begun = Date.now();
const say: Say = (line) => console.log(`[${((Date.now() - begun) / 1000).toFixed(1).padStart(6)} s] ${line}`);

async function up(): Promise<void> {
  if (process.geteuid?.() !== 0) throw new Error('it takes root to make namespaces: run this as root');
  const nodes = Number(process.env['NODES'] || 2);
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > 9) throw new Error('NODES must be a number from 1 to 9');
  if (existsSync(join(clustersDir, userPrefix))) throw new Error('there is one already: make cluster-down removes it');
  const cluster = await Cluster.start({ prefix: userPrefix, nodes, reachable: true, outlives: true }, say);
  if (process.env['TORTIE'] !== 'no') {
    say("giving the nodes Tortie's image, as a registry would");
    await importTortie(cluster);
    try {
      await installTortie(cluster, say);
    } catch (error) {
      console.error(`The cluster stays as it is, to look at: export KUBECONFIG=${cluster.plane.kubeconfig}`);
      throw error;
    }
  }
  say('done');
  console.log(await cluster.kubectl.run('get', 'nodes', '-o', 'wide'));
  console.log(await help(cluster));
}

async function help(cluster: Cluster): Promise<string> {
  const kubectl = await kubernetesProgram('kubectl');
  const shells = cluster.nodes.map(({ name, pid }) => `  nsenter --target=${pid} --net --mount --uts   # ${name}`);
  return `In this shell:
  export KUBECONFIG=${cluster.plane.kubeconfig}
  alias kubectl=${kubectl}

Three things to try:
  # Pods on both nodes, a Service before them, and a client that finds it by its name.
  kubectl create deployment web --image=${agnhostImage} --replicas=4 -- /agnhost netexec --http-port=8080
  kubectl expose deployment web --port=80 --target-port=8080
  kubectl create deployment client --image=${agnhostImage} -- /agnhost pause
  kubectl exec deploy/client -- /agnhost connect --timeout=3s web:80 && echo reached

  # A policy that closes it: now the client times out. Delete the policy, and it is open again.
  kubectl create -f - <<< '{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
    "metadata": {"name": "closed"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}}}}'
  kubectl exec deploy/client -- /agnhost connect --timeout=3s web:80

  # What an agent says of itself, and the other dataplane.
  kubectl -n kube-system exec ds/tortie-node -- tortie status
  kubectl patch felixconfiguration default --type merge -p '{"spec": {"bpfEnabled": true}}'

A shell on a node (nodes see no registry; \`ctr -n k8s.io images import FILE\` gives them an image):
${shells.join('\n')}

\`make cluster-down\` removes it all.`;
}

try {
  await up();
} catch (error) {
  console.error(`cluster-up: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
