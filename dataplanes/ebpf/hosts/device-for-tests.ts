import type { HostDevice } from './host-devices.ts';

/** An Ethernet device that the host endpoint `up` stands for, and that is no uplink. */
export const hostDevice = (ifindex: number): HostDevice => ({
  ifindex,
  name: 'eth0',
  device: {
    hasEthernet: true,
    mac: new Uint8Array(6),
    masquerade4: new Uint8Array(4),
    masquerade6: new Uint8Array(16),
  },
  endpoint: 'up',
  isUplink: false,
  isJudged: true,
});
