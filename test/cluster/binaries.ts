import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { goProgram, programPath, type GoProgram } from '../go/program.ts';

const goDir = fileURLToPath(new URL('go/kubernetes/', import.meta.url));

/** The release that the cluster is made of, `v1.36.3`: what its go.mod requires. */
export const kubernetesVersion = requiredVersion(`${goDir}go.mod`, 'k8s.io/kubernetes');

/** What is built of it; `agnhost` is Kubernetes' own test server and client for pods. */
const targets = {
  'kube-apiserver': 'k8s.io/kubernetes/cmd/kube-apiserver',
  'kube-controller-manager': 'k8s.io/kubernetes/cmd/kube-controller-manager',
  'kube-scheduler': 'k8s.io/kubernetes/cmd/kube-scheduler',
  'kube-proxy': 'k8s.io/kubernetes/cmd/kube-proxy',
  kubelet: 'k8s.io/kubernetes/cmd/kubelet',
  kubectl: 'k8s.io/kubernetes/cmd/kubectl',
  agnhost: 'k8s.io/kubernetes/test/images/agnhost',
} as const;
export type KubernetesProgram = keyof typeof targets;

/** Told what is going on, a line at a time. */
export type Say = (line: string) => void;

/** Path of a program of that release, built first (by Go, up to a few minutes for all of them) where it is missing. */
export async function kubernetesProgram(name: KubernetesProgram, say: Say = () => {}): Promise<string> {
  const program = definition(name);
  if (existsSync(programPath(program))) return programPath(program);
  say(`building ${name} ${kubernetesVersion}: once, minutes for the first program, less for each other`);
  return goProgram(program);
}

/** All of them, one after the other: each build uses every processor. */
export async function kubernetesPrograms(say: Say = () => {}): Promise<Readonly<Record<KubernetesProgram, string>>> {
  const paths: [string, string][] = [];
  for (const name of Object.keys(targets) as KubernetesProgram[]) {
    paths.push([name, await kubernetesProgram(name, say)]);
  }
  return Object.fromEntries(paths) as Record<KubernetesProgram, string>;
}

const coreDnsDir = fileURLToPath(new URL('go/coredns/', import.meta.url));

/** Of the cluster's name server. */
export const coreDnsVersion = requiredVersion(`${coreDnsDir}go.mod`, 'github.com/coredns/coredns');

/** Path of CoreDNS, with the plugins that a cluster needs; built first where it is missing. */
export function coreDnsProgram(say?: Say): Promise<string> {
  return built({ name: 'coredns', version: coreDnsVersion, dir: coreDnsDir, target: '.' }, 'about two minutes', say);
}

const etcdDir = fileURLToPath(new URL('go/etcd/', import.meta.url));
const etcdModule = 'go.etcd.io/etcd/server/v3';

/** Of the store behind the API server. From 3.5.13 on the API server answers listings from its memory (Debian 12's 3.4 can't help it to). */
export const etcdVersion = requiredVersion(`${etcdDir}go.mod`, etcdModule);

/** Path of etcd; built first where it is missing. */
export function etcdProgram(say?: Say): Promise<string> {
  return built({ name: 'etcd', version: etcdVersion, dir: etcdDir, target: etcdModule }, 'about a minute', say);
}

/** Path of a program that has a go.mod of its own; built first, without its symbols, where it is missing. */
async function built(program: GoProgram, howLong: string, say: Say = () => {}): Promise<string> {
  if (!existsSync(programPath(program))) say(`building ${program.name} ${program.version}: once, ${howLong}`);
  return goProgram({ ...program, ldflags: '-s -w' });
}

/** Version of a module that a go.mod requires; throws when it doesn't. */
function requiredVersion(goMod: string, module: string): string {
  const found = readFileSync(goMod, 'utf8')
    .split('\n')
    .map((line) => line.replace(/^require /, '').trim())
    .find((line) => line.startsWith(`${module} v`));
  if (found === undefined) throw new Error(`${goMod} does not require ${module}`);
  return found.split(' ')[1] ?? '';
}

function definition(name: KubernetesProgram): GoProgram {
  // Without these a server calls itself v0.0.0, which clients refuse.
  const [major, minor] = kubernetesVersion.slice(1).split('.');
  const values = { gitVersion: kubernetesVersion, gitMajor: major, gitMinor: minor };
  const flags = Object.entries(values).map(([key, value]) => `-X k8s.io/component-base/version.${key}=${value}`);
  return {
    name,
    version: kubernetesVersion,
    dir: goDir,
    target: targets[name],
    ldflags: ['-s -w', ...flags].join(' '),
    folder: `kubernetes-${kubernetesVersion}`,
  };
}
