import * as z from 'zod/mini';

/** A check by a function that says what is wrong, or undefined. The parser adds the value to the message. */
export function rule<T>(wrong: (value: T) => string | undefined): z.core.$ZodCheck<T> {
  return z.check<T>((payload) => {
    const message = wrong(payload.value);
    if (message !== undefined) {
      payload.issues.push({ code: 'custom', input: payload.value, message });
    }
  });
}

const labelPattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const subdomainPattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** A DNS-1123 label: a namespace's name, for example. */
export const dnsLabel = z.string().check(
  rule((text) =>
    text.length <= 63 && labelPattern.test(text)
      ? undefined
      : "must be a DNS label: at most 63 of a-z, 0-9 and '-', starting and ending with a letter or digit",
  ),
);

/** A DNS-1123 subdomain: the name of nearly every object. */
export const dnsSubdomain = z.string().check(
  rule((text) =>
    text.length <= 253 && subdomainPattern.test(text)
      ? undefined
      : "must be a DNS subdomain: at most 253 of a-z, 0-9, '-' and '.', each part starting and ending with a letter or digit",
  ),
);
