// SPDX-License-Identifier: MIT
// Source of the link-time stubs of torch: empty on purpose, see cmake/EcgTorch.cmake.
