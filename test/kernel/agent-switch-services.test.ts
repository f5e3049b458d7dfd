/** Connections to Services go on through a change of dataplane, whoever translated them at first and wherever their backend is. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { addressOf, dataplanes, eventually, families, startAgentLab } from '#test/lab/agent-lab.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { peerPort } from '#test/lab/peer.ts';
import type { RunningStream } from '#test/lab/peer-client.ts';
import { clusterIpService, endpointSlice } from '../contract/objects.ts';

const [iptables, ebpf] = dataplanes;
const protocols = ['tcp', 'udp'] as const;
/** ClusterIPs of what is served on the client's node, and on another one. */
const services = [
  { name: 'here', ipv4: '10.96.0.20', ipv6: 'fd96::20' },
  { name: 'there', ipv4: '10.96.0.21', ipv6: 'fd96::21' },
] as const;
const ports = protocols.map((protocol) => ({
  name: protocol,
  port: 80,
  targetPort: peerPort,
  protocol: protocol.toUpperCase(),
}));

describe('a connection to a Service', () => {
  let lab: Lab;
  let client: LabPod;
  const streams = new Map<string, RunningStream>();

  beforeAll(async () => {
    lab = await startAgentLab({ bpfEnabled: iptables.bpfEnabled });
    client = await lab.node(0).addPod('client');
    const backends = [await lab.node(0).addPod('near'), await lab.node(1).addPod('far')];
    await Promise.all(backends.map((pod) => pod.peer()));
    lab.apply(
      'services',
      services.flatMap(({ name, ipv4, ipv6 }, i) => [
        clusterIpService(name, [ipv4, ipv6], ports),
        ...families.map((family) =>
          endpointSlice(
            `${name}-${family.version}`,
            name,
            family.family,
            [{ addresses: [addressOf(backends[i] as LabPod, family)], conditions: { ready: true } }],
            ports.map((port) => ({ name: port.name, port: peerPort, protocol: port.protocol })),
          ),
        ),
      ]),
    );
    // What kube-proxy would do on the client's node.
    for (const [i, service] of services.entries()) {
      for (const family of families) {
        const [own, backend] = [addressOf(service, family), addressOf(backends[i] as LabPod, family)];
        const to = family.version === 4 ? `${backend}:${peerPort}` : `[${backend}]:${peerPort}`;
        for (const protocol of protocols) {
          const match = ['-d', own, '-p', protocol, '--dport', '80'];
          const table = family.version === 4 ? 'iptables' : 'ip6tables';
          await lab
            .node(0)
            .exec(table, '-t', 'nat', '-A', 'PREROUTING', ...match, '-j', 'DNAT', '--to-destination', to);
        }
      }
    }
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  const flipTo = async ({ dataplane, bpfEnabled }: (typeof dataplanes)[number]) => {
    lab.setBpfEnabled(bpfEnabled);
    await Promise.all(
      lab.nodes.map((node) => node.waitFor((status) => status.ready && status.dataplane.active === dataplane)),
    );
  };
  /** Opens one to each, in each way; each is answered. */
  const open = async (born: string) => {
    const peer = await client.peer();
    for (const service of services) {
      for (const family of families) {
        for (const protocol of protocols) {
          const stream = await peer.stream(addressOf(service, family), 10, { protocol, port: 80 });
          streams.set(`born in ${born}: ${protocol} to ${service.name}, ${family.family}`, stream);
        }
      }
    }
    await allGoOn();
  };
  /** Each gets answers to what it sends from now on. */
  const allGoOn = async () => {
    const before = await progress();
    const stuck = async () => {
      const now = await progress();
      return Object.keys(now).filter((name) => (now[name] ?? 0) < (before[name] ?? 0) + 5);
    };
    await eventually(async () => (await stuck()).length === 0, stuck);
  };
  const progress = async () =>
    Object.fromEntries(
      await Promise.all(
        [...streams].map(async ([name, stream]) => [name, (await stream.progress()).answered] as const),
      ),
    );

  it.each([
    { to: ebpf, before: 'iptables' },
    { to: iptables, before: 'ebpf' },
    { to: ebpf, before: 'iptables, again' },
    { to: iptables, before: 'ebpf, again' },
  ])('goes on when $to.dataplane comes', async ({ to, before }) => {
    await open(before);
    await flipTo(to);
    await allGoOn();
  });

  it('loses no TCP message, and hardly a datagram, in any of them', async () => {
    const reports = await Promise.all([...streams].map(async ([name, stream]) => ({ name, ...(await stream.stop()) })));
    const lost = reports.map(({ name, sent, answered, failure }) => ({ name, sent, lost: sent - answered, failure }));
    process.stdout.write(
      `${lost.length} connections to Services: ${lost.reduce((sum, one) => sum + one.sent, 0)} messages, ${lost.reduce((sum, one) => sum + one.lost, 0)} lost\n`,
    );
    expect(lost.filter((one) => one.failure !== null)).toEqual([]);
    expect(lost.filter((one) => one.lost > (one.name.includes('tcp') ? 0 : one.sent * 0.2))).toEqual([]);
  });
});
