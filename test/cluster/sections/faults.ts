import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../../lab/agent-lab.ts';
import type { Bed } from '../bed.ts';
import { Flow } from '../flow.ts';
import type { TestPod } from '../test-pod.ts';

const awayMs = 60_000;
const kills = 5;

/** What happens around Tortie, while connections run and a policy stands. */
export function faults(bed: () => Bed): void {
  describe('faults', () => {
    let server: TestPod;
    let friend: TestPod;
    let stranger: TestPod;

    beforeAll(async () => {
      const [one, two] = [bed().cluster.node(1), bed().cluster.node(2)];
      [server, friend, stranger] = (await bed().createPods({
        server: { node: one },
        friend: { node: two },
        stranger: { node: two },
      })) as [TestPod, TestPod, TestPod];
      await bed().kubectl.apply([
        {
          apiVersion: 'networking.k8s.io/v1',
          kind: 'NetworkPolicy',
          metadata: { name: 'friend', namespace: 'default' },
          spec: {
            podSelector: { matchLabels: { app: 'server' } },
            ingress: [{ from: [{ podSelector: { matchLabels: { app: 'friend' } } }] }],
          },
        },
      ]);
      // A datagram that comes before makes a connection, which the policy doesn't end.
      const peer = await stranger.peer();
      const isDenied = async () => {
        const answers = [server.ipv4, server.ipv6].flatMap((host) => [
          peer.connect(host, 700),
          peer.datagram(host, 700),
        ]);
        return (await Promise.all(answers)).every(({ ok }) => !ok);
      };
      // Twice: once may be a machine that stood still.
      await eventually(
        async () => (await isDenied()) && (await isDenied()),
        () => 'the policy is not in force',
        150_000,
      );
    }, 600_000);
    afterAll(async () => {
      await bed().kubectl.run('delete', 'networkpolicy.networking.k8s.io', 'friend', '--ignore-not-found');
      await bed().deletePods([server, friend, stranger]);
    });

    /**
     * Runs connections that the policy allows, and datagrams that it denies, while `what` happens; fails when a message of the first is lost or one of the
     * second arrives.
     */
    const undisturbed = async (what: () => Promise<void>): Promise<void> => {
      const heardBefore = await (await server.peer()).heard();
      const flow = await Flow.start(friend, server);
      const denied = await Promise.all(
        [server.ipv4, server.ipv6].map(async (host) => (await stranger.peer()).stream(host, 10, { protocol: 'udp' })),
      );
      const back = await Flow.start(server, friend);
      await what();
      const lost = [...(await flow.stop()), ...(await back.stop())];
      const sent = await Promise.all(denied.map((stream) => stream.stop()));
      const heard = await (await server.peer()).heard();
      expect({ lost, denied: [heard[stranger.ipv4], heard[stranger.ipv6]] }).toEqual({
        lost: [],
        denied: [heardBefore[stranger.ipv4], heardBefore[stranger.ipv6]],
      });
      expect(Math.min(...sent.map((report) => report.sent))).toBeGreaterThan(10);
    };

    it('the API server is killed and away for a minute: pods talk, the policy stands; then agents follow again', async () => {
      await undisturbed(async () => {
        await bed().cluster.plane.killApiServer();
        await sleep(awayMs);
        await bed().cluster.plane.startApiServer();
        await bed().statusBecomes(({ ready }) => ready);
      });
      const [late] = await bed().createPods({ late: { node: bed().cluster.node(1) } });
      await bed().deletePods(late === undefined ? [] : [late]);
    }, 900_000);

    it('etcd is restarted: pods talk, the policy stands, new pods start', async () => {
      await undisturbed(async () => {
        await bed().cluster.plane.restartEtcd();
        const [late] = await bed().createPods({ later: { node: bed().cluster.node(2) } });
        await bed().deletePods(late === undefined ? [] : [late]);
        await bed().statusBecomes(({ ready }) => ready);
      });
    }, 900_000);

    it('agents are killed in a loop while pods come and go: no connection dies, no address is given twice', async () => {
      await undisturbed(async () => {
        const live: TestPod[] = [server, friend, stranger];
        for (let round = 0; round < kills; round++) {
          const agents = await Promise.all(bed().nodes.map((node) => bed().agentOn(node)));
          const force = ['--namespace=kube-system', '--force', '--grace-period=0'];
          const gone = agents.filter((agent) => agent !== undefined);
          const [, made] = await Promise.all([
            gone.length === 0 ? '' : bed().kubectl.run('delete', 'pod', ...force, ...gone),
            bed().createPods({
              [`one${round}`]: { node: bed().cluster.node(1) },
              [`two${round}`]: { node: bed().cluster.node(2) },
            }),
          ]);
          live.push(...made);
          const addresses = live.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]);
          expect(new Set(addresses).size).toBe(addresses.length);
          // One of each pair goes: its addresses may be given again, but not to two.
          const leaving = live.splice(3 + (round % 2), 1);
          await bed().deletePods(leaving);
        }
        await bed().statusBecomes(({ ready }) => ready);
        await bed().deletePods(live.slice(3));
      });
      await bed().addressesAreThePods();
    }, 900_000);

    it("an upgrade in place, node after node, disturbs nobody; with the API server's own address agents do without its Service", async () => {
      const namespace = '--namespace=kube-system';
      const { hostname, port } = new URL(bed().cluster.plane.server);
      await bed().kubectl.run(
        ...['create', 'configmap', 'kubernetes-services-endpoint', namespace],
        ...[`--from-literal=KUBERNETES_SERVICE_HOST=${hostname}`, `--from-literal=KUBERNETES_SERVICE_PORT=${port}`],
      );
      await undisturbed(async () => {
        await bed().kubectl.run('rollout', 'restart', namespace, 'daemonset/tortie-node');
        await bed().kubectl.run('rollout', 'status', namespace, 'daemonset/tortie-node', '--timeout=240s');
        await bed().statusBecomes(({ ready }) => ready);
      });
      for (const node of bed().nodes) {
        const logs = await bed().kubectl.run(
          'logs',
          namespace,
          `pod/${await bed().agentOn(node)}`,
          '--container=agent',
        );
        // Again where it was lost in between.
        const reached = new Set(logs.match(/API server https:\S+ is reached/g));
        expect({ node: node.name, reached: [...reached] }).toEqual({
          node: node.name,
          reached: [`API server https://${hostname}:${port} is reached`],
        });
      }
      await bed().kubectl.run('delete', 'configmap', 'kubernetes-services-endpoint', namespace);
    }, 900_000);
  });
}
