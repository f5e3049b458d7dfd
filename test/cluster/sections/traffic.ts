import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { addressOf, eventually, families } from '../../lab/agent-lab.ts';
import { exec, type Finished } from '../../lab/exec.ts';
import type { Bed } from '../bed.ts';
import { kubernetesProgram } from '../binaries.ts';
import { agnhostImage } from '../images.ts';
import type { ClusterNode } from '../node.ts';
import type { TestPod } from '../test-pod.ts';

const http = ['netexec', '--http-port=8080', '--udp-port=8081'];
/** A busy machine may take long to start a program or to answer: by default the kubelet restarts a container after three seconds of that. */
const patient = { periodSeconds: 1, timeoutSeconds: 20 };
const probes = {
  startupProbe: { exec: { command: ['/agnhost', 'connect', '127.0.0.1:8080'] }, ...patient, failureThreshold: 120 },
  readinessProbe: { httpGet: { path: '/healthz', port: 8080 }, ...patient },
  livenessProbe: { tcpSocket: { port: 8080 }, ...patient },
};

/** Whether somebody serves node ports, and ClusterIPs for the nodes' own processes (default: true). */
export interface Served {
  readonly nodePorts?: boolean;
  readonly forNodes?: boolean;
}

/** Who leads to Services hears of their pods a moment after these are Ready; once it does, every try must succeed. */
async function answers(target: string, connect: () => Promise<Finished>): Promise<void> {
  let last: Finished | undefined;
  await eventually(
    async () => (last = await connect()).status === 0,
    () => `${target}: ${last?.stderr}`,
  );
  const { status, stderr } = await connect();
  expect({ target, status, stderr }).toEqual({ target, status: 0, stderr: '' });
}

/** Pods, Services, names and probes. */
export function traffic(bed: () => Bed, { nodePorts = true, forNodes = true }: Served = {}): void {
  describe('traffic', () => {
    let here: TestPod;
    let there: TestPod;
    let client: TestPod;
    let unready: string;

    beforeAll(async () => {
      const { cluster, kubectl } = bed();
      const deployment = {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'web', namespace: 'default' },
        spec: {
          replicas: 3,
          selector: { matchLabels: { app: 'web' } },
          template: {
            metadata: { labels: { app: 'web' } },
            spec: {
              terminationGracePeriodSeconds: 0,
              topologySpreadConstraints: [
                {
                  maxSkew: 1,
                  topologyKey: 'kubernetes.io/hostname',
                  whenUnsatisfiable: 'DoNotSchedule',
                  labelSelector: { matchLabels: { app: 'web' } },
                },
              ],
              containers: [
                {
                  name: 'agnhost',
                  image: agnhostImage,
                  imagePullPolicy: 'Never',
                  args: http,
                  ...probes,
                },
              ],
            },
          },
        },
      };
      const service = {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'web', namespace: 'default' },
        spec: {
          type: 'NodePort',
          ipFamilyPolicy: 'RequireDualStack',
          selector: { app: 'web' },
          ports: [{ name: 'http', port: 80, targetPort: 8080, nodePort: 30080 }],
        },
      };
      await kubectl.apply([deployment, service]);
      // Its readiness probe asks a port that nobody serves.
      unready = 'unready';
      await kubectl.apply([
        {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: unready, namespace: 'default' },
          spec: {
            terminationGracePeriodSeconds: 0,
            containers: [
              {
                name: 'agnhost',
                image: agnhostImage,
                imagePullPolicy: 'Never',
                args: ['pause'],
                readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 },
              },
            ],
          },
        },
      ]);
      [here, there, client] = (await bed().createPods({
        here: { node: cluster.node(1) },
        there: { node: cluster.node(2) },
        client: { node: cluster.node(1) },
      })) as [TestPod, TestPod, TestPod];
    }, 300_000);

    afterAll(async () => {
      await bed().deletePods([here, there, client]);
      await bed().kubectl.run('delete', 'deployment/web', 'service/web', `pod/${unready}`, '--wait');
    });

    it.each(families)(
      'pods talk within a node and across nodes in $family, seen under their own addresses',
      async (family) => {
        for (const [from, to] of [
          [client, here],
          [here, there],
          [there, here],
        ] as const) {
          await to.peer();
          const answer = await (await from.peer()).connect(addressOf(to, family));
          expect({ from: from.name, to: to.name, answer }).toEqual({
            from: from.name,
            to: to.name,
            answer: { ok: true, seenAs: addressOf(from, family) },
          });
        }
      },
    );

    it('a Deployment is rolled out: exec, HTTP and TCP probes reach its pods on both nodes', async () => {
      await bed().kubectl.run('rollout', 'status', 'deployment/web', '--timeout=150s');
      const nodes = await bed().kubectl.run(
        'get',
        'pods',
        '--selector=app=web',
        '-o',
        'jsonpath={.items[*].spec.nodeName}',
      );
      expect(new Set(nodes.split(' '))).toEqual(new Set(bed().nodes.map(({ name }) => name)));
      const restarts = await bed().kubectl.run(
        'get',
        'pods',
        '--selector=app=web',
        '-o',
        'jsonpath={.items[*].status.containerStatuses[0].restartCount}',
      );
      expect(restarts).toBe('0 0 0');
    });

    it('a pod whose probe finds nobody is not Ready, and the kubelet says that its connection was refused', async () => {
      const events = () => bed().kubectl.run('events', `--for=pod/${unready}`, '-o', 'jsonpath={.items[*].message}');
      await eventually(async () => (await events()).includes('connection refused'), events);
    });

    it('a pod finds the Service by its name, from either node, in both families', async () => {
      const ips = await bed().kubectl.json<{ spec: { clusterIPs: string[] } }>('get', 'service', 'web');
      expect(ips.spec.clusterIPs).toHaveLength(2);
      for (const pod of [here, there]) {
        for (const host of ['web', 'web.default.svc.cluster.local', ...ips.spec.clusterIPs]) {
          const target = host.includes(':') ? `[${host}]:80` : `${host}:80`;
          await answers(target, () => bed().exec(pod.name, '/agnhost', 'connect', '--timeout=20s', target));
        }
      }
    });

    const itWithNodePorts = nodePorts ? it : () => undefined;
    itWithNodePorts(
      'a node port of each node leads to the pods, for pods and from outside, in both families',
      async () => {
        const agnhost = await kubernetesProgram('agnhost');
        for (const { ipv4, ipv6 } of bed().nodes) {
          for (const target of [`${ipv4}:30080`, `[${ipv6}]:30080`]) {
            const connect = ['connect', '--timeout=20s', target];
            await answers(`${target}, from a pod`, () => bed().exec(client.name, '/agnhost', ...connect));
            const fromOutside = [`--net=${bed().cluster.fabric.netnsPath}`, agnhost, ...connect];
            await answers(`${target}, from outside`, () => exec('nsenter', fromOutside));
          }
        }
      },
    );

    const itWithNodes = forNodes ? it : () => undefined;
    itWithNodes("the nodes' own processes reach ClusterIPs, in both families, and the API server's", async () => {
      const agnhost = await kubernetesProgram('agnhost');
      const ipsOf = async (name: string) =>
        (await bed().kubectl.json<{ spec: { clusterIPs: string[] } }>('get', 'service', name)).spec.clusterIPs;
      const at = (port: number) => (ip: string) => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);
      // Often enough for pods of this node and of the other one.
      const web = (await ipsOf('web')).map(at(80)).flatMap((target) => [target, target, target, target]);
      const targets = [...web, ...(await ipsOf('kubernetes')).map(at(443))];
      const ask = async (node: ClusterNode, target: string) => {
        await answers(`${target}, from ${node.name}`, () => node.try(agnhost, 'connect', '--timeout=20s', target));
      };
      await Promise.all(bed().nodes.flatMap((node) => targets.map((target) => ask(node, target))));
    });

    it('a pod reaches the API server by its Service', async () => {
      const target = 'kubernetes:443';
      await answers(target, () => bed().exec(there.name, '/agnhost', 'connect', '--timeout=20s', target));
    });
  });
}
