mod simulation;
mod steps;
mod world;
