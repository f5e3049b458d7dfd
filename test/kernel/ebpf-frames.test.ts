import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { arp, cut, ethernet, ipv4, ipv6, v4, v6 } from '#test/lab/packets.ts';
import { type BedPod, EbpfBed, packetsOf } from './ebpf-bed.ts';

/*
 * Frames that no honest stack sends, over a real veth: what a pod with CAP_NET_RAW can do.
 *
 *     pod 3: test run --redirect--> eth0 --> cali3 ingress: tortie_from_pod --> counted by reason
 */
let bed: EbpfBed;
let pod: BedPod;
let dataplane: EbpfDataplane;

beforeAll(async () => {
  bed = await EbpfBed.create();
  dataplane = await bed.dataplane();
  await dataplane.activate();
  pod = await bed.pod(3, dataplane);
  dataplane.onUpdate({
    type: 'workloadEndpointUpdate',
    id: pod.id,
    endpoint: { ...pod.endpoint, ipv4Nets: [`${v4.podOne}/32`], ipv6Nets: [`${v6.podOne}/128`] },
  });
  await dataplane.apply();
});

afterAll(async () => {
  await bed[Symbol.asyncDispose]();
});

test.each<[string, Uint8Array, number, string]>([
  ['IPv4 from its address', ipv4({ from: v4.podOne }), 0, 'passed'],
  ['IPv4 that ends inside its header', cut(ipv4({ from: v4.podOne }), 14 + 19), 0, 'truncated'],
  ['IPv4 of one byte', cut(ipv4({ from: v4.podOne }), 14 + 1), 0, 'truncated'],
  ['IPv6 that ends inside its header', cut(ipv6({ from: v6.podOne }), 14 + 39), 0, 'truncated'],
  ['IPv6 of one byte', cut(ipv6({ from: v6.podOne }), 14 + 1), 0, 'truncated'],
  ['ARP of one byte', cut(arp({ senderIp: v4.podOne }), 14 + 1), 0, 'truncated'],
  ['IPv4 from its address with a VLAN tag', ipv4({ from: v4.podOne }), 5, 'ethertype'],
  ['an EAPOL frame', ethernet(0x888e, new Uint8Array(46)), 0, 'ethertype'],
])('%s', async (_, frame, vlan, verdict) => {
  const before = await packetsOf(dataplane, pod.device, 'from-pod');
  await bed.inject(pod, frame, vlan);
  const after = await packetsOf(dataplane, pod.device, 'from-pod');
  expect((after[verdict] ?? 0) - (before[verdict] ?? 0)).toBeGreaterThanOrEqual(1);
});
