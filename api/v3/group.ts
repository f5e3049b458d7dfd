/** The API group and version of Calico's kinds. */
export const v3 = 'projectcalico.org/v3';
