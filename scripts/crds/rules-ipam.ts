/** Rules of the kinds that manage addresses. */
import { blockSizes } from '#api/v3/ip-pool.ts';
import type { CrdRule } from './rules.ts';

/** The pool's block size, with what its absence (or Go's 0) means. */
const blockSize = `(has(self.blockSize) && self.blockSize != 0 ? self.blockSize : (cidr(self.cidr).ip().family() == 4 ? ${blockSizes[4].default} : ${blockSizes[6].default}))`;
const family = 'cidr(self.cidr).ip().family()';
const usable = 'isCIDR(self.cidr)';

function size(ip: 4 | 6): Pick<CrdRule, 'rule' | 'message'> {
  const { min, max } = blockSizes[ip];
  return {
    rule: `!${usable} || ${family} != ${ip} || ${blockSize} >= ${min} && ${blockSize} <= ${max}`,
    message: `must be a prefix length from ${min} to ${max} for IPv${ip}`,
  };
}

const pool = { kinds: ['IPPool'], at: 'spec' } as const;
const ipv4 = { cidr: '10.65.0.0/16' };
const ipv6 = { cidr: 'fd00:10::/48' };
const balancers = { ...ipv4, allowedUses: ['LoadBalancer'] };

const forBalancers = '(has(self.allowedUses) && "LoadBalancer" in self.allowedUses)';

export const ipamRules: readonly CrdRule[] = [
  {
    ...pool,
    rule: `!${usable} || !(cidr("169.254.0.0/16").containsCIDR(self.cidr) || cidr(self.cidr).containsCIDR("169.254.0.0/16") || cidr("fe80::/10").containsCIDR(self.cidr) || cidr(self.cidr).containsCIDR("fe80::/10"))`,
    message: 'must not overlap the link-local range (169.254.0.0/16, fe80::/10)',
    fieldPath: '.cidr',
    breaks: { cidr: '169.254.8.0/24' },
  },
  { ...pool, ...size(4), fieldPath: '.blockSize', breaks: { ...ipv4, blockSize: 19 } },
  { ...pool, ...size(6), fieldPath: '.blockSize', breaks: { ...ipv6, blockSize: 26 } },
  {
    ...pool,
    rule: `!${usable} || (has(self.disabled) && self.disabled) || cidr(self.cidr).prefixLength() <= ${blockSize}`,
    message: 'must have room for a block; set blockSize for smaller ones',
    ours: 'must have room for a block, which is a /26; set blockSize for smaller ones',
    fieldPath: '.cidr',
    breaks: { cidr: '10.65.0.0/28' },
  },
  {
    ...pool,
    rule: 'self.vxlanMode == "Never" || self.ipipMode == "Never"',
    message: 'must be Never while vxlanMode is not',
    fieldPath: '.ipipMode',
    breaks: { ...ipv4, vxlanMode: 'Always', ipipMode: 'CrossSubnet' },
  },
  {
    ...pool,
    rule: `!${usable} || self.ipipMode == "Never" || ${family} == 4`,
    message: 'must be Never: IPIP carries no IPv6',
    fieldPath: '.ipipMode',
    breaks: { ...ipv6, ipipMode: 'Always' },
  },
  {
    ...pool,
    rule: `!${forBalancers} || self.allowedUses.all(use, use == "LoadBalancer")`,
    message: 'must have LoadBalancer alone: a pool for load balancers has no other use',
    fieldPath: '.allowedUses',
    breaks: { ...ipv4, allowedUses: ['LoadBalancer', 'Tunnel'] },
  },
  {
    ...pool,
    rule: `!${forBalancers} || self.vxlanMode == "Never"`,
    message: 'must be Never in a pool for LoadBalancer',
    fieldPath: '.vxlanMode',
    breaks: { ...balancers, vxlanMode: 'Always' },
  },
  {
    ...pool,
    rule: `!${forBalancers} || self.ipipMode == "Never"`,
    message: 'must be Never in a pool for LoadBalancer',
    fieldPath: '.ipipMode',
    breaks: { ...balancers, ipipMode: 'Always' },
  },
  {
    ...pool,
    rule: `!${forBalancers} || self.nodeSelector in ["all()", ""]`,
    message: 'must be all() in a pool for LoadBalancer',
    fieldPath: '.nodeSelector',
    breaks: { ...balancers, nodeSelector: 'has(a)' },
  },
  {
    ...pool,
    rule: 'self.cidr == oldSelf.cidr',
    message: "can't be changed: make a new pool, disable this one and move the workloads",
    fieldPath: '.cidr',
    before: ipv4,
    breaks: { cidr: '10.66.0.0/16' },
  },
  {
    ...pool,
    rule: `(has(self.blockSize) ? self.blockSize : 0) == (has(oldSelf.blockSize) ? oldSelf.blockSize : 0) || !${usable} || ${blockSize} == ${blockSize.replaceAll('self.', 'oldSelf.')}`,
    message: "can't be changed: blocks of another size exist; make a new pool",
    fieldPath: '.blockSize',
    before: ipv4,
    breaks: { ...ipv4, blockSize: 28 },
  },
  {
    kinds: ['IPAMConfiguration'],
    at: 'spec',
    rule: '!has(self.autoAllocateBlocks) || self.autoAllocateBlocks || (has(self.strictAffinity) && self.strictAffinity)',
    message: 'must be true unless strictAffinity is: nodes without blocks would borrow every address',
    fieldPath: '.autoAllocateBlocks',
    breaks: { autoAllocateBlocks: false },
  },
  {
    kinds: ['IPAMConfiguration'],
    at: 'spec',
    rule: '!has(self.maxBlocksPerHost) || self.maxBlocksPerHost == 0 || (has(self.strictAffinity) && self.strictAffinity)',
    message: 'must be 0 unless strictAffinity is true: nodes would borrow beyond it',
    fieldPath: '.maxBlocksPerHost',
    breaks: { maxBlocksPerHost: 1 },
  },
];
